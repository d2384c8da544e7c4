/** G22: Debian's own sbuild-update, unmodified, refreshes an image; what did not go well is thrown away, and told. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import type { KnownLease } from '../../src/cli/leases.ts';
import { stateAt } from '../../src/config/state.ts';
import { isExecutable } from '../../src/exec/executable.ts';
import { run } from '../../src/exec/run.ts';
import { layoutOf } from '../../src/golden/layout.ts';
import type { ImageDetails } from '../../src/golden/show.ts';
import { readHead, readManifest } from '../../src/golden/store.ts';
import { verifyGeneration } from '../../src/golden/verify-generation.ts';
import { decodeArgv } from '../../src/protocol/adt-virt/words.ts';
import { breaks, plantIn, sbuildUpdate } from './fixtures/outdated-image.ts';
import { goldbedWithCopy, program, virtProgram, type Goldbed } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';
import { Wire } from './vectors/describe-virt-server.ts';

const image = 'bridge';
const unavailable = await overlayBackend(stateAt('/nonexistent')).unavailable();
const noSbuild = isExecutable('/usr/bin/sbuild-update') ? undefined : 'apt-get install sbuild';

describeWith('overlay', unavailable ?? noSbuild, 'sbuild-update', () => {
  let goldbed: Goldbed;
  let folder: string;
  beforeAll(async () => {
    goldbed = await goldbedWithCopy(image);
    await plant(''); // what an earlier run has planted
    const updated = await goldbed.run('image', 'update', image, '--wait'); // package lists
    expect(updated.code, updated.stderr).toBe(0);
  });
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'goldbed-bridge-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const environment = (): Record<string, string> => ({
    PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: folder,
    GOLDBED_NODE: process.execPath,
    GOLDBED_STATE: goldbed.state,
    GOLDBED_GOLDEN_WAIT: '0',
  });
  const server = () => ({ argv: [virtProgram, 'overlay', image], env: environment(), revert: true });
  const head = async () => (await readHead(stateAt(goldbed.state), image)).generation;
  const versionOf = async (name: string): Promise<string | undefined> => {
    const layout = layoutOf(stateAt(goldbed.state), image);
    const manifest = await readManifest(layout, await head());
    return manifest.split('\n').find((line) => line.startsWith(`${name}\t`));
  };
  const update = (...flags: string[]) =>
    run([program, 'golden-update', ...flags, image, '--', ...sbuildUpdate], { env: environment() });

  const plant = async (configuration: string): Promise<number> => {
    await plantIn(server(), configuration);
    expect(await versionOf('gpgv')).toMatch(/^gpgv\t0\.1\t/);
    return head();
  };

  test('a good upgrade is published; the next one finds nothing to do', async () => {
    const before = await plant('');
    const updated = await update();
    expect(updated.code, updated.stderr).toBe(0);
    expect(updated.stdout).toContain(`${image}: published as generation ${before + 1}`);
    expect(await head()).toBe(before + 1);
    expect(await versionOf('gpgv')).not.toMatch(/\t0\.1\t/);
    const again = await update('--json');
    expect(again.code, again.stderr).toBe(0);
    expect(again.stdout).toContain('"status": "unchanged"');
    expect(await head()).toBe(before + 1);
  });

  test('a failing dist-upgrade is discarded, though sbuild-update ends with 0', async () => {
    const before = await plant(breaks);
    const updated = await update();
    expect(updated.stdout).toContain('planted');
    expect([updated.code, await head()]).toEqual([1, before]);
    expect(updated.stderr).toMatch(/nothing was published: a command failed with 100: apt-get .*/);
    const reason = /a command failed with 100: apt-get [^\n]*/.exec(updated.stderr)?.[0];
    const shown = await goldbed.run('image', 'show', image, '--json');
    const { looked, failed } = JSON.parse(shown.stdout).image as ImageDetails;
    expect(looked.failed).toMatchObject({ step: 'golden-update', reason });
    expect(failed[0]).toMatchObject({ base: before, step: 'golden-update', reason });
    expect(await readFile(path.join(failed[0]?.folder ?? '', 'log'), 'utf8')).toMatch(/^100\t.*dist-upgrade/m);
    expect(await readFile(path.join(failed[0]?.folder ?? '', 'manifest.tsv'), 'utf8')).toMatch(/^apt\t/m);
    await plant(''); // a new generation
    expect((await goldbed.run('image', 'ls')).stdout).not.toMatch(new RegExp(`^${image} .*failed`, 'm'));
  });

  test('a commit that does not verify is noted, whoever asked for it', async () => {
    const before = await plant('');
    const wire = new Wire(server());
    expect(await wire.ask('open-golden')).toMatch(/^ok /);
    const auxverb = decodeArgv((await wire.ask('print-execute-command')).slice(3));
    const script = `sed -i '/^Package: gpgv$/,/^$/s/^Status: .*/Status: install ok half-configured/' /var/lib/dpkg/status`;
    expect(await run([...auxverb, '/bin/sh', '-ec', script])).toMatchObject({ code: 0 });
    expect(await wire.ask('commit-golden')).toBe('commit-failed');
    expect(await wire.quit()).toBe(0);
    const shown = await goldbed.run('image', 'show', image, '--json');
    const { looked, failed } = JSON.parse(shown.stdout).image as ImageDetails;
    expect(looked.failed).toMatchObject({ step: 'commit', reason: expect.stringMatching(/^dpkg --audit failed/) });
    expect(failed[0]).toMatchObject({ base: before });
    expect((await goldbed.run('image', 'ls')).stdout).toMatch(new RegExp(`^${image} .*refresh failed in commit`, 'm'));
    expect((await goldbed.run('image', 'rollback', image, String(before))).code).toBe(0);
    expect((await goldbed.run('image', 'ls')).stdout).not.toMatch(new RegExp(`^${image} .*failed`, 'm'));
  });

  test('whoever waits for another writer is told who it is, and both can be seen', async () => {
    await plant('');
    const wire = new Wire(server());
    expect(await wire.ask('open-golden')).toMatch(/^ok /);
    const refused = await update('--lock-wait', '0');
    expect(refused.stderr).toMatch(/golden-locked|is writing bridge/);
    const child = spawn(program, ['golden-update', '--lock-wait', '300', image, '--', ...sbuildUpdate], {
      env: environment(),
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    while (!said.includes('waits for')) await once(child.stderr, 'data');
    expect(said).toMatch(/waits for \S+ \(process \d+\), who writes bridge/);
    const { leases } = JSON.parse((await goldbed.run('lease', 'ls', '--json')).stdout) as { leases: KnownLease[] };
    expect(leases.filter((lease) => lease.image === image)).toMatchObject([{ where: 'host', waiting: [{}] }]);
    expect((await goldbed.run('image', 'ls')).stdout).toMatch(new RegExp(`^${image} .*, then `, 'm'));
    expect(await wire.ask('close')).toBe('ok');
    expect(await wire.quit()).toBe(0);
    const [code] = await once(child, 'exit');
    expect([code, said]).toEqual([0, said]);
  });

  test.each([
    ['', 0, 1],
    [breaks, 0, 0],
  ])('with --golden=commit, in a configuration of its own: %j', async (configuration, code, published) => {
    const before = await plant(configuration);
    const updated = await run(sbuildUpdate, { env: await withCommit() });
    expect([updated.code, await head()]).toEqual([code, before + published]);
    if (published === 0) expect(updated.stdout + updated.stderr).toMatch(/nothing was published: a command failed/);
  });

  const withCommit = async (): Promise<Record<string, string>> => {
    const config = await goldbed.run('sbuild-config', image, '--update');
    await writeFile(path.join(folder, 'update.rc'), config.stdout);
    return { ...environment(), SBUILD_CONFIG: path.join(folder, 'update.rc') };
  };

  test('SIGTERM in the middle of apt, with --golden=commit: sbuild-update closes in order, and it is discarded', async () => {
    const before = await plant('DPkg::Pre-Invoke {"echo planted; exec sleep 600";};\n');
    const [updater = '', ...args] = sbuildUpdate;
    const child = spawn(updater, args, { env: await withCommit(), stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    await new Promise<void>((resolve) => {
      child.stdout.on('data', (chunk: Buffer) => {
        said += chunk.toString();
        if (said.includes('planted')) resolve();
      });
    });
    const ended = once(child, 'close');
    child.kill('SIGTERM');
    await ended;
    expect(said).toContain('nothing was published');
    expect(await head()).toBe(before);
    const writer = new Wire(server()); // the lock is free
    expect(await writer.ask('open-golden')).toMatch(/^ok /);
    expect(await writer.quit()).toBe(0);
  });

  test('SIGTERM to the server itself, with --golden=commit: discarded, and it dies by it', async () => {
    const before = await head();
    const { argv, ...rest } = server();
    const [virt = '', ...args] = argv;
    const wire = new Wire({ ...rest, argv: [virt, '--golden=commit', ...args] });
    expect(await wire.ask('capabilities')).toBe('ok root-on-testbed'); // what is changed persists
    expect(await wire.ask('open')).toMatch(/^ok /);
    const auxverb = await wire.executeCommand();
    const marked = await run([...auxverb, 'apt-get', '-o', 'Dir::Cache=/root/cache', 'clean']);
    expect(marked).toMatchObject({ code: 0 });
    wire.child.kill('SIGTERM');
    expect(await wire.ended()).toBe('SIGTERM');
    expect(await head()).toBe(before);
  });

  test('a file of the administrator’s is a change; what a package manager leaves in its logs is none', async () => {
    const before = await head();
    const session = async (...script: string[]): Promise<number> => {
      const { argv, ...rest } = server();
      const [virt = '', ...args] = argv;
      const wire = new Wire({ ...rest, argv: [virt, '--golden=commit', ...args] });
      expect(await wire.ask('open')).toMatch(/^ok /);
      const auxverb = await wire.executeCommand();
      expect(await run([...auxverb, 'apt-get', 'clean'])).toMatchObject({ code: 0 });
      for (const line of script) expect(await run([...auxverb, '/bin/sh', '-c', line])).toMatchObject({ code: 0 });
      expect(await wire.ask('close')).toBe('ok');
      expect(await wire.quit()).toBe(0);
      return head();
    };
    expect(await session('echo by hand >>/etc/by-hand')).toBe(before + 1);
    expect(await session('echo said >>/var/log/dpkg.log; touch /etc/by-hand')).toBe(before + 1);
    expect(await session('chmod 600 /etc/by-hand')).toBe(before + 2);
    expect(await session('rm /etc/by-hand')).toBe(before + 3);
  });

  test('SIGTERM in the middle of apt: discarded, the image intact, the lock free', async () => {
    const before = await plant('DPkg::Pre-Invoke {"echo planted; exec sleep 600";};\n');
    const child = spawn(program, ['golden-update', image, '--', ...sbuildUpdate], {
      env: environment(),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    let heard = '';
    await new Promise<void>((resolve) => {
      child.stdout.on('data', (chunk: Buffer) => {
        heard += chunk.toString();
        if (heard.includes('planted')) resolve();
      });
    });
    const ended = once(child, 'close');
    child.kill('SIGTERM');
    expect((await ended)[0]).toBe(130);
    expect(said).toContain('nothing was published');
    expect(await head()).toBe(before);
    const state = stateAt(goldbed.state);
    expect((await verifyGeneration(state, image, undefined, new AbortController().signal)).damaged).toEqual([]);
    const writer = new Wire(server());
    expect(await writer.ask('open-golden')).toMatch(/^ok /);
    expect(await writer.quit()).toBe(0);
  });

  test('a lock that somebody else holds is told, and nothing happens', async () => {
    const before = await head();
    const writer = new Wire(server());
    expect(await writer.ask('open-golden')).toMatch(/^ok /);
    const refused = await update('--lock-wait', '0');
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toMatch(/is writing bridge; waited 0 s/);
    expect(await writer.quit()).toBe(0);
    expect(await head()).toBe(before);
  });

  test('a program that changes nothing, or is not there, publishes nothing', async () => {
    const before = await head();
    const idle = await run([program, 'golden-update', image, '--', '/bin/true'], { env: environment() });
    expect([idle.code, idle.stderr.trim()]).toEqual([
      1,
      'goldbed: nothing was published: no session was opened and closed',
    ]);
    const missing = await run([program, 'golden-update', image, '--', 'no-such-program'], { env: environment() });
    expect([missing.code, missing.stderr.trim()]).toEqual([64, 'goldbed: no-such-program: not found']);
    expect(await head()).toBe(before);
  });
});
