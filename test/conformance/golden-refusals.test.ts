/** Commits and golden sessions that must be refused: the image is as it was, and the session goes on. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readlinkSync, renameSync, symlinkSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { check, run } from '../../src/exec/run.ts';
import { verifyGeneration } from '../../src/golden/index.ts';
import { testCache } from './fixtures/base-image.ts';
import { goldbedWithImage, smallImage, virtProgram } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';
import { Wire, type ServerUnderTest } from './vectors/describe-virt-server.ts';

const notRoot = process.getuid?.() === 0 ? undefined : 'not root';
const unavailable = notRoot ?? (await overlayBackend(stateAt('/nonexistent')).unavailable());

describeWith('overlay', unavailable, 'a golden session that is refused', () => {
  const image = smallImage.name;
  let state: string;
  let store: string;
  beforeEach(async () => {
    const original = path.join((await goldbedWithImage(smallImage)).state, 'images', image);
    state = await mkdtemp(path.join(testCache(), 'refusals-'));
    store = path.join(state, 'images', image);
    await mkdir(store, { recursive: true });
    const parts = ['generations', 'head', 'claim.json'].map((name) => path.join(original, name));
    await check(['/bin/cp', '-al', ...parts, store]);
  });
  afterEach(() => rm(state, { recursive: true, force: true, maxRetries: 5 })); // trash is emptied in the background

  const server = (env: Readonly<Record<string, string>> = {}): ServerUnderTest => ({
    argv: [virtProgram, 'overlay', image],
    env: { GOLDBED_NODE: process.execPath, GOLDBED_STATE: state, GOLDBED_GOLDEN_WAIT: '1', ...env },
    revert: true,
  });
  /** In a mount namespace of its own, in which a folder of the store is a mount. */
  const mounted = (folder: string, options: string): ServerUnderTest => {
    const { argv, ...rest } = server();
    const script = 'mount --bind "$1" "$1" && mount -o "remount,bind,$2" "$1" && shift 2 && exec "$@"';
    return {
      ...rest,
      argv: ['/usr/bin/unshare', '--mount', '--', '/bin/sh', '-c', script, 'sh', folder, options, ...argv],
    };
  };
  const head = (): string => readlinkSync(path.join(store, 'head'));
  /** The image is whole and as it was, nothing is left of the candidate, and a session opens on it. */
  const intact = async (wire: Wire, before: string): Promise<void> => {
    expect(head()).toBe(before);
    expect(readdirSync(path.join(store, 'work'))).toEqual([]);
    expect((await verifyGeneration(stateAt(state), image, undefined, new AbortController().signal)).damaged).toEqual(
      [],
    );
    expect(await wire.ask('open')).toMatch(/^ok /);
    expect((await run([...(await wire.executeCommand()), '/usr/bin/test', '!', '-e', '/root/half'])).code).toBe(0);
    expect(await wire.quit()).toBe(0);
  };
  /** Starts a command in the testbed that says so when it is half done. */
  const writing = async (wire: Wire, script: string) => {
    const [program = '', ...args]: string[] = [
      ...(await wire.executeCommand()),
      '/bin/sh',
      '-c',
      `echo half >/root/half; echo up; ${script}`,
    ];
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'ignore'] });
    await once(child.stdout, 'data');
    return child;
  };

  test('a command that still runs at the commit: what it has written may be half', async () => {
    const before = head();
    const wire = new Wire(server());
    await wire.ask('open-golden');
    const child = await writing(wire, 'sleep 600');
    const ended = once(child, 'exit');
    expect(await wire.ask('commit-golden')).toBe('commit-failed');
    expect(wire.said()).toContain('commit-failed: a command has not ended: /bin/sh -c echo half');
    await ended; // with the testbed
    await intact(wire, before);
  });

  test('the time limit of a commit', async () => {
    const before = head();
    const wire = new Wire(server({ AUTOPKGTEST_VIRT_GOLDEN_TIMEOUT: '1' }));
    await wire.ask('open-golden');
    await writing(wire, 'sleep 600');
    expect(await wire.ask('commit-golden')).toBe('commit-failed');
    expect(wire.said()).toContain('commit-failed: not done within 1 s');
    await intact(wire, before);
    const wrong = await run(server().argv, { env: { ...server().env, AUTOPKGTEST_VIRT_GOLDEN_TIMEOUT: 'soon' } });
    expect([wrong.code, wrong.stdout]).toEqual([1, '']);
  });

  test('a command that ends in time is no hindrance, nor is a daemon that was left', async () => {
    const before = head();
    const wire = new Wire(server());
    await wire.ask('open-golden');
    const child = await writing(wire, 'setsid sleep 600 >/dev/null 2>&1 & read end');
    const committed = wire.ask('commit-golden');
    child.stdin.end('\n');
    expect(await committed).toBe('ok');
    expect(head()).not.toBe(before);
    expect(await wire.quit()).toBe(0);
  });

  test('G18: an image that was replaced from outside is kept', async () => {
    const numbers = readdirSync(path.join(store, 'generations'));
    const other = path.join(store, 'generations', String(Math.max(...numbers.map(Number)) + 1));
    await check(['/bin/cp', '-al', path.join(store, head()), other]);
    const wire = new Wire(server());
    await wire.ask('open-golden');
    const link = path.join(store, 'head.new');
    symlinkSync(`generations/${path.basename(other)}`, link);
    renameSync(link, path.join(store, 'head'));
    expect(await wire.ask('commit-golden')).toBe('golden-changed');
    expect(head()).toBe(`generations/${path.basename(other)}`);
    expect(await wire.quit()).toBe(0);
  });

  test('G19: a folder that cannot be written at the commit', async () => {
    const before = head();
    const wire = new Wire(mounted(path.join(store, 'generations'), 'ro'));
    await wire.ask('open-golden');
    await run([...(await wire.executeCommand()), '/bin/touch', '/root/half']);
    expect(await wire.ask('commit-golden')).toBe('commit-failed');
    await intact(wire, before);
  });

  test('a store that is read-only announces no golden image; one that became so is golden-unavailable', async () => {
    const reader = new Wire(mounted(store, 'ro'));
    expect(await reader.ask('capabilities')).not.toContain('golden');
    expect(await reader.ask('open-golden')).toBe('(end of output)');
    expect(await reader.ended()).toBe(12);

    const wire = new Wire(mounted(store, 'rw'));
    expect(await wire.ask('capabilities')).toContain(' golden-image');
    const enter = ['/usr/bin/nsenter', `--mount=/proc/${wire.child.pid}/ns/mnt`, '--'];
    await check([...enter, '/usr/bin/mount', '-o', 'remount,bind,ro', store]);
    expect(await wire.ask('open-golden')).toBe('golden-unavailable');
    expect(await wire.ask('capabilities')).toContain(' golden-image');
    expect(await wire.quit()).toBe(0);
    expect(existsSync(path.join(store, 'work'))).toBe(false);
  });
});
