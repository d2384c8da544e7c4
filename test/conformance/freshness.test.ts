/** Jobs that ask for a fresh image, schedules and policies, by the command line: real images, real builds. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { debianArchitecture } from '../../src/exec/debian-architecture.ts';
import { run } from '../../src/exec/run.ts';
import { directoryStore } from '../../src/golden/index.ts';
import { redisLeases } from '../../src/golden/lease.ts';
import { listOpen } from '../../src/producer/list.ts';
import { decodeArgv } from '../../src/protocol/adt-virt/words.ts';
import { connectRedis, type RedisHandle } from '../../src/redis/connect.ts';
import { acquireEmbedded } from '../../src/redis/embedded.ts';
import { baseRoot, Goldbed, goldbedWithImage, smallImage, testImage, virtProgram } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';
import { writeToy } from './fixtures/toy-package.ts';
import { until } from './fixtures/until.ts';
import { Wire } from './vectors/describe-virt-server.ts';

const unavailable = await overlayBackend(stateAt('/nonexistent')).unavailable();
const never = new AbortController().signal;

interface Job {
  readonly id: string;
  readonly kind: string;
  readonly image: string;
  readonly state: string;
  readonly submitted: number;
  readonly waits?: { readonly run: string; readonly image: string };
  readonly failure?: { readonly message: string };
}

describeWith('overlay', unavailable, 'freshness', () => {
  let goldbed: Goldbed;
  let folder: string;
  beforeAll(async () => {
    goldbed = await goldbedWithImage();
    await goldbedWithImage(smallImage);
  });
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'goldbed-fresh-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const json = (text: string): any => JSON.parse(text); // oxlint-disable-line typescript/no-explicit-any -- checked below
  const ok = async (...args: string[]): Promise<string> => {
    const ran = await goldbed.run(...args);
    expect(ran.code, ran.stderr).toBe(0);
    return ran.stdout;
  };
  const jobs = async (since: number): Promise<Job[]> =>
    (json(await ok('ps', '--all', '--json')).jobs as Job[]).filter(({ submitted }) => submitted >= since);

  test('three jobs cause one refresh, wait for it without a slot, say so, and run on what it made', async () => {
    const since = Date.now();
    const trees = await Promise.all(['one', 'two', 'three'].map((name) => writeToy(folder, `fresh-${name}-${since}`)));
    await using server = await openState(goldbed);
    const worker = await goldbed.startWorker('--slots', '2');
    // a writer of ours has the image: the refresh begins, and cannot go on before we let it
    const leases = redisLeases(server.redis, { owner: 'the test' });
    const held = await leases.acquire(
      testImage,
      await directoryStore(stateAt(goldbed.state), testImage).highestFence(),
      never,
    );
    const waiting = trees.map((tree) => goldbed.run('build', tree, '--image', testImage, '--max-age', '0s', '--wait'));
    await until(
      async () => (await listOpen(server.redis, 100)).runs.filter(({ waits }) => waits !== undefined).length === 3,
    );
    const seen = await jobs(since);
    const [refresh, ...others] = seen.filter(({ kind }) => kind === 'update-golden');
    expect(others).toEqual([]);
    const [job, ...more] = seen.filter(({ kind }) => kind === 'build');
    for (const { state, waits } of [job, ...more].filter((one) => one !== undefined))
      expect({ state, waits }).toMatchObject({ state: 'delayed', waits: { run: refresh?.id, image: testImage } });
    const reason = `waits for update-golden ${refresh?.id} of ${testImage}, 0:\\d\\d`;
    expect(await ok('ps')).toMatch(new RegExp(`${job?.id} .* delayed .*${reason}\n`));
    expect(await ok('show', job?.id ?? '')).toMatch(new RegExp(`^  ${reason}$`, 'm'));
    expect(await ok('why', job?.id ?? '')).toContain(`update-golden ${refresh?.id} of ${testImage}`);
    await held[Symbol.asyncDispose]();

    const ended = await Promise.all(waiting);
    const { head } = json(await ok('image', 'show', testImage, '--json')).image;
    for (const { code, stdout, stderr } of ended) {
      expect(code, stderr).toBe(0);
      expect(stderr).toMatch(new RegExp(reason));
      expect(stdout).toContain(`${testImage}@${head.generation} ${head.digest.slice(0, 19)}`);
    }
    expect((await jobs(since)).map(({ kind }) => kind).toSorted()).toEqual([
      'build',
      'build',
      'build',
      'update-golden',
    ]);
    worker.child.kill('SIGTERM');
    await once(worker.child, 'exit');
  });

  test('a refresh that fails ends the job with 76, its name and its reason; the generation stays', async () => {
    const root = path.join(folder, 'root');
    execFileSync('cp', ['-a', await baseRoot(), root]);
    await writeFile(path.join(root, 'etc/apt/sources.list'), 'deb http://127.0.0.1:9/debian stable main\n');
    await rm(path.join(root, 'etc/apt/sources.list.d'), { recursive: true, force: true });
    await goldbed.run('image', 'rm', 'mirrorless');
    await ok('image', 'import', 'mirrorless', root);
    const tree = await writeToy(folder, `fresh-mirrorless-${Date.now()}`);
    const ran = await goldbed.run('build', tree, '--image', 'mirrorless', '--max-age', '0s', '--wait');
    expect(ran.code).toBe(76);
    expect(ran.stderr).toMatch(
      /^goldbed: b\w+ infrastructure: mirrorless@1: \d+ s old, 0 s allowed, and update-golden u[\w-]+ failed: update: exit 100: E: /m,
    );
    const other = await writeToy(folder, `fresh-generation-${Date.now()}`);
    const beyond = await goldbed.run('build', other, '--image', 'mirrorless', '--min-generation', '7', '--wait');
    expect(beyond.code).toBe(64);
    expect(beyond.stderr).toContain(
      'usage: generation 7 was asked for, but the current one is 1 and the next one will be 2',
    );
    expect(await ok('image', 'ls')).toMatch(/mirrorless +1 .*refresh failed in update: /);
    await ok('image', 'rm', 'mirrorless');
  });

  test('a schedule of the configuration is applied by the worker, and run when its time has come', async () => {
    const since = Date.now();
    const cron = `0 ${(new Date(since).getUTCHours() + 12) % 24} * * *`; // ten hours or so from now in Berlin: not meanwhile
    const config = await configured(`${smallImage.name}: { schedule: '${cron}', timeZone: Europe/Berlin, keep: 2 }`);
    const own = new Goldbed(goldbed.state, { XDG_CONFIG_HOME: config });
    await using server = await openState(goldbed);
    const worker = await own.startWorker();
    const [schedule] = json((await own.run('image', 'schedule', '--json')).stdout).schedules;
    expect(schedule).toMatchObject({ image: smallImage.name, cron, timeZone: 'Europe/Berlin' });
    expect(schedule.by).toMatch(/^configuration of /);
    expect(schedule.next).toBeGreaterThan(since);
    const listed = `^small .* ${cron.replaceAll('*', '\\*')} \\(in \\d+ h\\)`;
    expect((await own.run('image', 'ls')).stdout).toMatch(new RegExp(listed, 'm'));
    const refused = await own.run('image', 'schedule', smallImage.name, '--rm');
    expect(refused.code).toBe(64);
    expect(refused.stderr).toContain(`(images.policy.${smallImage.name}.schedule): change it there`);

    // its time has come
    const queue = `${server.redis.keys.queues}:update-golden.any.${await debianArchitecture()}.m.${smallImage.name}`;
    const [token = ''] = await server.redis.client.zrange(`${queue}:delayed`, '0', '-1');
    await server.redis.client.zadd(`${queue}:delayed`, 'XX', String(Date.now() * 4096), token);
    const [, begun = ''] = /asks for (\S+)$/.exec(await worker.saw(/^small: its schedule asks for u/)) ?? [];
    await worker.saw(new RegExp(`^${begun}: (published|unchanged)`));
    const updates = (await jobs(since)).filter(({ kind }) => kind === 'update-golden');
    expect(updates).toMatchObject([{ id: begun, image: smallImage.name, state: 'completed' }]);
    worker.child.kill('SIGTERM');
    await once(worker.child, 'exit');

    // a worker whose configuration has it no more removes it
    const plain = await new Goldbed(goldbed.state, {
      XDG_CONFIG_HOME: await configured('other: { keep: 2 }'),
    }).startWorker();
    expect(json(await ok('image', 'schedule', '--json')).schedules).toEqual([]);
    plain.child.kill('SIGTERM');
    await once(plain.child, 'exit');
  });

  test('a schedule by hand: made, listed, changed, removed; what is wrong is one line', async () => {
    const at = ['image', 'schedule', smallImage.name];
    expect(await ok(...at, '--cron', '0 3 * * *', '--time-zone', 'UTC')).toMatch(
      /^small: upgrade at 0 3 \* \* \* UTC, next \d{4}-\d\d-\d\d 03:00 UTC \(in /,
    );
    await ok(...at, '--cron', '30 4 * * sun', '--time-zone', 'UTC', '--strategy', 'replace');
    expect(await ok('image', 'schedule', '--ls')).toMatch(/^small +30 4 \* \* sun +UTC +replace +\S+ 04:30 UTC/m);
    const cases: [string[], RegExp][] = [
      [[...at, '--cron', '61 * * * *'], /^goldbed: --cron: "61 \* \* \* \*" is not a cron pattern: "61" is no minute/],
      [[...at, '--cron', '0 3 * * *', '--time-zone', 'Mars'], /^goldbed: --time-zone: unknown time zone "Mars"/],
      [[...at, '--cron', '0 0 30 2 *'], /^goldbed: "0 0 30 2 \*" cannot be a schedule: /],
      [['image', 'schedule', 'nope', '--cron', '0 3 * * *'], /^goldbed: unknown image "nope" \(known: /],
      [['image', 'schedule', '--rm'], /^goldbed: --rm: expected the NAME of an image as well/],
      [[...at, '--rm', '--cron', '0 3 * * *'], /^goldbed: expected one of --cron, --rm and --ls/],
      [['build', 'hello', '--image', testImage, '--max-age', 'soon'], /^goldbed: --max-age: expected a number and its/],
      [['build', 'hello', '--image', testImage, '--min-generation', '0'], /^goldbed: --min-generation: expected a num/],
      [['image', 'update', testImage, '--strategy', 'replace', '--steps', 'u'], /^goldbed: --steps: a replacement has/],
    ];
    for (const [args, message] of cases) {
      const ran = await goldbed.run(...args);
      expect({ args, code: ran.code }).toEqual({ args, code: 64 });
      expect(ran.stderr).toMatch(message);
    }
    expect(await ok(...at, '--rm')).toBe('small: has no schedule any more\n');
    expect((await goldbed.run(...at, '--rm')).stderr).toBe('goldbed: small has no schedule\n');
  });

  test('a policy that cannot be is an error of the configuration; one for an unknown image stops nothing', async () => {
    const wrong = await configured('sid: { schedule: "0 3 * *" }');
    const ran = await new Goldbed(goldbed.state, { XDG_CONFIG_HOME: wrong }).run('image', 'ls');
    expect(ran.code).toBe(78);
    expect(ran.stderr).toMatch(
      /^goldbed: \/.*a\.yaml: images\.policy\.sid\.schedule: "0 3 \* \*" is not a cron pattern/,
    );
    const unknown = await configured('nowhere: { schedule: "0 3 * * *" }');
    const worker = await new Goldbed(goldbed.state, { XDG_CONFIG_HOME: unknown }).startWorker();
    expect(worker.lines.join('\n')).toContain('images.policy.nowhere: there is no image nowhere on this host');
    worker.child.kill('SIGTERM');
    await once(worker.child, 'exit');
  });

  test('the policy’s strategy is what an update does unless it is told: here it bootstraps anew', async () => {
    const policy = '{ strategy: replace, keep: 1, verify: [[/usr/bin/test, -x, /usr/bin/apt-get]] }';
    const config = await configured(`${smallImage.name}: ${policy}`);
    const own = new Goldbed(goldbed.state, { XDG_CONFIG_HOME: config });
    const updated = await own.run('image', 'update', smallImage.name, '--wait', '--json');
    expect(updated.code, updated.stderr).toBe(0);
    const { result } = json(updated.stdout).outcome;
    expect(result).toMatchObject({ kind: 'update-golden', status: 'published', after: result.before + 1 });
    const show = async () => json(await ok('image', 'show', smallImage.name, '--json')).image;
    const made = { generation: result.after, strategy: 'replace', job: json(updated.stdout).id };
    expect((await show()).head).toMatchObject(made);
    expect((await show()).head.verified).toContain('/usr/bin/test -x /usr/bin/apt-get');
    expect((await own.run('image', 'gc', smallImage.name)).code).toBe(0); // the job itself had pinned the one before
    expect((await show()).all).toMatchObject([{ record: made }]);
  });

  test('the policy’s own checks: what fails them is not published, what passes them says so', async () => {
    const commit = async (check: string): Promise<string> => {
      const env = { ...goldbed.env, XDG_CONFIG_HOME: await configured(`${smallImage.name}: { verify: [${check}] }`) };
      const wire = new Wire({ argv: [virtProgram, 'overlay', smallImage.name], env, revert: true });
      expect(await wire.ask('open-golden')).toMatch(/^ok /);
      const auxverb = decodeArgv((await wire.ask('print-execute-command')).slice(3));
      expect((await run([...auxverb, '/bin/sh', '-c', 'date +%s%N > /etc/changed'])).code).toBe(0);
      const answer = await wire.ask('commit-golden');
      await wire.quit();
      return answer;
    };
    const head = async () => json(await ok('image', 'show', smallImage.name, '--json')).image.head;
    const before = await head();
    expect(await commit('[/bin/true], [/usr/bin/test, -e, /no such file]')).toMatch(/^commit-failed/);
    expect(await head()).toEqual(before);
    expect(await commit('[/bin/sh, -c, "test -e /etc/changed && rm /etc/changed"]')).toBe('ok');
    const after = await head();
    expect(after.generation).toBe(before.generation + 1);
    expect(after.verified).toEqual([
      'dpkg --audit',
      'apt-get check',
      'fresh session',
      '/bin/sh -c test -e /etc/changed && rm /etc/changed',
    ]);
    expect(await commit('[/usr/bin/test, -e, /etc/changed]')).toBe('ok'); // what a check did is not part of it
  });

  async function configured(policy: string): Promise<string> {
    const home = await mkdtemp(path.join(folder, 'config-'));
    await mkdir(path.join(home, 'goldbed'));
    await writeFile(path.join(home, 'goldbed/a.yaml'), `images:\n  policy:\n    ${policy}\n`);
    return home;
  }
});

/** The Redis of the state folder, for the test itself. */
async function openState(goldbed: Goldbed): Promise<AsyncDisposable & { readonly redis: RedisHandle }> {
  const embedded = await acquireEmbedded(stateAt(goldbed.state), never);
  const redis = await connectRedis({ kind: 'embedded', socketPath: embedded.socketPath }, 'goldbed');
  return {
    redis,
    async [Symbol.asyncDispose]() {
      await redis[Symbol.asyncDispose]();
      await embedded[Symbol.asyncDispose]();
    },
  };
}
