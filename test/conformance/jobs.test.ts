/** Whole jobs by the command line: real sbuild, real autopkgtest, a real image, and what is left when they are killed. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { Goldbed, goldbedWithImage, program, testImage } from './fixtures/goldbed.ts';
import { logSays, sessions, leftovers } from './fixtures/left-behind.ts';
import { describeWith } from './fixtures/requirements.ts';
import { writeToy } from './fixtures/toy-package.ts';

const unavailable = await overlayBackend(stateAt('/nonexistent')).unavailable();

describeWith('overlay', unavailable, 'jobs', () => {
  let goldbed: Goldbed;
  let folder: string;
  beforeAll(async () => {
    goldbed = await goldbedWithImage();
    // apt lists in the image: then builds here need no network
    expect((await goldbed.run('image', 'update', testImage, '--wait')).code).toBe(0);
  });
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'goldbed-jobs-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));
  afterAll(() => {
    expect(leftovers(goldbed.state)).toEqual([]);
  });

  const out = (name = 'out'): string => path.join(folder, name);
  const json = (text: string): any => JSON.parse(text); // oxlint-disable-line typescript/no-explicit-any -- checked below

  test('a build, then a test of what it made', async () => {
    const tree = await writeToy(folder, 'toy-good', { test: 'grep -q content /usr/share/toy-good/file' });
    const built = await goldbed.run('build', tree, '--image', testImage, '--json', '-o', out());
    expect(built.code, built.stderr).toBe(0);
    const { outcome, log } = json(built.stdout);
    expect(outcome).toMatchObject({
      result: { kind: 'build', exitCode: 0, status: 'successful' },
      backend: 'overlay',
      attempt: 1,
    });
    expect(outcome.generation.digest).toMatch(/^sha256:[0-9a-f]{64}$/);
    const steps = outcome.steps.map(({ name }: { name: string }) => name);
    expect(steps).toEqual(expect.arrayContaining(['queued', 'opened', 'deps', 'build', 'closed']));
    expect(await readdir(out())).toEqual(
      expect.arrayContaining(['toy-good_1.0_all.deb', 'toy-good_1.0_amd64.changes']),
    );
    expect(await readFile(log, 'utf8')).toContain('Status: successful');

    const changes = path.join(out(), 'toy-good_1.0_amd64.changes');
    // its source is not in any archive: with the .dsc beside it, that is where the tests come from
    execFileSync('dpkg-source', ['--build', tree], { cwd: out(), stdio: 'ignore' });
    const tested = await goldbed.run('test', changes, '--image', testImage, '--json', '-o', out('tested'));
    expect(tested.code, tested.stderr).toBe(0);
    expect(json(tested.stdout).outcome.result).toEqual({ kind: 'test', exitCode: 0, status: 'pass' });
    expect(await readdir(out('tested'))).toEqual(
      expect.arrayContaining(['log', 'summary', 'testinfo.json', 'exitcode']),
    );
    expect(await readFile(path.join(out('tested'), 'summary'), 'utf8')).toMatch(/smoke\s+PASS/);
  });

  test('a failing build ends with sbuild’s own exit code, and is not retried', async () => {
    const tree = await writeToy(folder, 'toy-bad', { build: 'exit 1' });
    const built = await goldbed.run('build', tree, '--image', testImage, '--json', '--wait');
    expect(built.code, built.stderr).toBe(2);
    expect(json(built.stdout)).toMatchObject({
      state: 'completed',
      outcome: { attempt: 1, result: { status: 'attempted' } },
    });
  });

  const verdicts: [string, { test: string; restrictions?: string }, number, string][] = [
    ['failing', { test: 'exit 1' }, 4, 'fail'],
    ['skipped', { test: 'exit 77', restrictions: 'skippable' }, 8, 'neutral'],
  ];
  test.each(verdicts)('a %s test ends with autopkgtest’s own exit code', async (name, toy, code, status) => {
    const tree = await writeToy(folder, `toy-${name}`, toy);
    const tested = await goldbed.run('test', tree, '--image', testImage, '--json', '--wait');
    expect(tested.code, tested.stderr).toBe(code);
    expect(json(tested.stdout).outcome.result).toEqual({ kind: 'test', exitCode: code, status });
  });

  test('an update with nothing to do makes no generation', async () => {
    const before = json((await goldbed.run('image', 'show', testImage, '--json')).stdout).image.head.generation;
    const updated = await goldbed.run('image', 'update', testImage, '--json', '--wait', '--steps', 'c');
    expect(updated.code, updated.stderr).toBe(0);
    expect(json(updated.stdout).outcome.result).toMatchObject({ status: 'unchanged', before, after: before });
  });

  test('bad input is one line and its exit code', async () => {
    const cases: [string[], number, RegExp][] = [
      [['build', '--image', testImage, 'no-such.dsc'], 64, /^goldbed: .*no-such\.dsc: cannot be read: .*\n$/],
      [['build', '--image', 'nope', 'hello'], 64, /^goldbed: unknown image "nope" \(known: .*\btest-image\b.*\)\n$/],
      [['build', 'hello'], 64, /^error: required option '--image <NAME>' not specified\n$/],
      [['image', 'update', testImage, '--steps', 'xyz'], 64, /^goldbed: steps: expected letters out of u d c a r g/],
      [['show', 'zzz'], 64, /^goldbed: no job with an id that begins with "zzz"\n$/],
      [['image', 'create', '../x', '--suite', 'sid'], 64, /^goldbed: .*\.\.\/x.* is not an image name/],
      [
        ['--redis-url', 'redis://127.0.0.1:1', 'ps'],
        69,
        /^goldbed: Redis at redis:\/\/127\.0\.0\.1:1 cannot be used: .*\n$/,
      ],
    ];
    for (const [args, code, message] of cases) {
      const ran = await goldbed.run(...args);
      expect({ args, code: ran.code }).toEqual({ args, code });
      expect(ran.stderr).toMatch(message);
    }
  });

  test('no free disk: the job waits, and is told why; nothing is spent on it', async () => {
    const tree = await writeToy(folder, 'toy-nodisk');
    const poor = new Goldbed(goldbed.state, { GOLDBED_MIN_FREE_DISK: '999999999' });
    const worker = await poor.startWorker();
    const child = spawn(program, ['build', tree, '--image', testImage, '--wait'], { env: poor.env });
    let said = '';
    for await (const chunk of child.stderr) {
      said += String(chunk);
      if (/no free disk/.test(said)) child.kill('SIGINT');
    }
    expect(said).toMatch(/waits: .* holds back: this host: no free disk: \d+ MB left in .*, 999999999 MB are needed/);
    const [runId = ''] = said.split(' ');
    expect(json((await goldbed.run('show', runId, '--json')).stdout)).toMatchObject({ state: 'waiting' });
    worker.child.kill('SIGTERM');
    await once(worker.child, 'exit');
    const done = await goldbed.run('build', tree, '--image', testImage, '--json', '--wait');
    expect(json(done.stdout)).toMatchObject({ id: runId, outcome: { attempt: 1, result: { status: 'successful' } } });
  });

  test('no worker, and this host cannot run the job: one line at once, and nothing is handed in', async () => {
    const tree = await writeToy(folder, 'toy-nowhere');
    const build = ['build', tree, '--image', testImage, '--wait'];
    const no = String.raw`^goldbed: no worker is running, and this host cannot run it: `;
    const disk = await new Goldbed(goldbed.state, { GOLDBED_MIN_FREE_DISK: '999999999' }).run(...build);
    expect([disk.code, disk.stdout]).toEqual([69, '']);
    expect(disk.stderr).toMatch(
      new RegExp(String.raw`${no}no free disk: \d+ MB left in .*, 999999999 MB are needed\n$`),
    );
    const docker = await new Goldbed(goldbed.state, { GOLDBED_DOCKER_SOCKET: '/nonexistent' }).run(
      ...[...build, '--backend', 'docker'],
    );
    expect([docker.code, docker.stdout]).toEqual([69, '']);
    expect(docker.stderr).toMatch(new RegExp(String.raw`${no}docker: .*/nonexistent.*\n$`));
    expect((await goldbed.run('ps', '--all')).stdout).not.toContain('toy-nowhere');
  });

  test('build dependencies that cannot be installed are dep-wait; so are those of a test', async () => {
    const tree = await writeToy(folder, 'toy-depwait', { depends: 'no-such-package-anywhere' });
    const built = await goldbed.run('build', tree, '--image', testImage, '--json', '--wait');
    const { outcome, id } = json(built.stdout);
    expect(outcome.result).toEqual({ kind: 'build', exitCode: built.code, status: 'dep-wait' });
    expect(built.code).toBeGreaterThan(0);
    expect((await goldbed.run('show', id)).stdout).toContain('dep-wait');
    const toy = { test: 'true', testDepends: 'no-such-package-anywhere' };
    const tests = await writeToy(folder, 'toy-testdepwait', toy);
    const tested = await goldbed.run('test', tests, '--image', testImage, '--json', '--wait');
    expect(json(tested.stdout).outcome.result).toEqual({ kind: 'test', exitCode: 12, status: 'dep-wait' });
  });

  test('kill -9 of the worker in the middle of a build: the next one cleans up and runs it to its end', async () => {
    const tree = await writeToy(folder, 'toy-killed', { build: 'echo IN-THE-MIDDLE; sleep 4' });
    const first = await goldbed.startWorker();
    const { stdout } = await goldbed.run('build', tree, '--image', testImage);
    const runId = stdout.trim();
    await logSays(goldbed, runId, 'IN-THE-MIDDLE');
    expect(sessions(goldbed.state)).toHaveLength(1);
    first.child.kill('SIGKILL');
    await once(first.child, 'exit');
    const second = await goldbed.startWorker();
    expect(second.lines.join('\n')).toMatch(new RegExp(`removed what session .* left[^]*${runId}: given back`));
    const waited = await goldbed.run('build', tree, '--image', testImage, '--json', '--wait');
    expect(waited.code, waited.stderr).toBe(0);
    expect(json(waited.stdout)).toMatchObject({ id: runId, outcome: { attempt: 2, result: { status: 'successful' } } });
    second.child.kill('SIGTERM');
    expect((await once(second.child, 'exit'))[0]).toBe(0);
  });

  test('cancel stops a running build and frees what it held', async () => {
    const tree = await writeToy(folder, 'toy-cancelled', { build: 'echo IN-THE-MIDDLE; sleep 1000' });
    const worker = await goldbed.startWorker();
    const { stdout } = await goldbed.run('build', tree, '--image', testImage);
    const runId = stdout.trim();
    await logSays(goldbed, runId, 'IN-THE-MIDDLE');
    expect((await goldbed.run('cancel', runId)).code).toBe(0);
    await worker.saw(new RegExp(`${runId}: stop`));
    expect(leftovers(goldbed.state)).toEqual([]);
    worker.child.kill('SIGTERM');
    await once(worker.child, 'exit');
    expect((await goldbed.run('show', runId)).stdout).toMatch(/cancelled by goldbed cancel/);
  });

  test('SIGTERM lets the running job end; a second one gives it back', async () => {
    const tree = await writeToy(folder, 'toy-drained', { build: 'echo IN-THE-MIDDLE; sleep 3' });
    const worker = await goldbed.startWorker();
    const runId = (await goldbed.run('build', tree, '--image', testImage)).stdout.trim();
    await logSays(goldbed, runId, 'IN-THE-MIDDLE');
    worker.child.kill('SIGTERM');
    await once(worker.child, 'exit');
    expect(worker.lines.join('\n')).toContain(`${runId}: successful`);

    const slow = await writeToy(folder, 'toy-given-back', { build: 'echo IN-THE-MIDDLE; sleep 1000' });
    const again = await goldbed.startWorker();
    const given = (await goldbed.run('build', slow, '--image', testImage)).stdout.trim();
    await logSays(goldbed, given, 'IN-THE-MIDDLE');
    again.child.kill('SIGTERM');
    await again.saw(/SIGTERM: draining/);
    again.child.kill('SIGTERM');
    await once(again.child, 'exit');
    expect(again.lines.join('\n')).toContain(`${given}: give-back`);
    expect((await goldbed.run('show', given)).stdout).toMatch(/waiting/);
    expect((await goldbed.run('cancel', given)).code).toBe(0);
  });
});
