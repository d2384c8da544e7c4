/** The overlay backend on a real root: isolation, fidelity, and that nothing is left behind. */
import { randomUUID } from 'node:crypto';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, mkdir, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import type { BackendTestbed } from '../../src/backends/backend.ts';
import { stateAt, type State } from '../../src/config/state.ts';
import { emptyTrash } from '../../src/exec/trash.ts';
import { run } from '../../src/exec/run.ts';
import { testCache } from './fixtures/base-image.ts';
import { baseRoot } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';
import { until } from './fixtures/until.ts';

const never = new AbortController().signal;
const unavailable = await overlayBackend(stateAt('/nonexistent')).unavailable();
const newId = (): string => randomUUID().replaceAll('-', '');

describeWith('overlay', unavailable, 'overlay backend', () => {
  let state: State;
  let layer: string;

  beforeAll(async () => {
    layer = await baseRoot();
    state = stateAt(await mkdtemp(path.join(testCache(), 'overlay-')));
  });
  afterAll(() => rm(state.root, { recursive: true, force: true }));

  const open = (options: { sessionId?: string; keepChangesIn?: string } = {}): Promise<BackendTestbed> =>
    overlayBackend(state).open({ layers: [layer] }, { sessionId: newId(), ...options }, never);
  const sh = (testbed: BackendTestbed, script: string): Promise<{ code: number; stdout: string; stderr: string }> =>
    run([...testbed.auxverb, 'sh', '-c', script]);

  test('commands end with their own status, 255 as 253, signals as 128 + N', async () => {
    await using testbed = await open();
    const codes = [];
    for (const script of ['exit 0', 'exit 1', 'exit 77', 'exit 255', 'kill -9 $$'])
      codes.push((await sh(testbed, script)).code);
    expect(codes).toEqual([0, 1, 77, 253, 137]);
    expect((await run([...testbed.auxverb, 'no-such-program'])).code).toBe(127);
  });

  test('the environment of the caller does not get in; an empty one is enough', async () => {
    await using testbed = await open();
    const seen = await run([...testbed.auxverb, 'env'], { env: { GOLDBED_REDIS_URL: 'secret', HOME: '/home/x' } });
    expect(seen.stdout).not.toContain('secret');
    expect(seen.stdout).toContain('HOME=/root\n');
    expect((await run([...testbed.auxverb, 'true'], { env: {} })).code).toBe(0);
  });

  test('devices, proc, sys, pts, shm and resolv.conf are as a package build needs them', async () => {
    await using testbed = await open();
    const script = `echo x >/dev/null && head -c 3 /dev/zero | wc -c && head -c 3 /dev/urandom | wc -c && test -c /dev/tty &&
      test -e /dev/ptmx && touch /dev/shm/x && test -d /sys/class && test -r /proc/self/status && ls -l /dev/fd/0 >/dev/null &&
      getent hosts localhost && cat /etc/resolv.conf`;
    const { code, stdout } = await sh(testbed, script);
    expect(code).toBe(0);
    expect(stdout).toContain(await readFile('/etc/resolv.conf', 'utf8'));
  });

  test('its processes, its mounts and its writes are its own', async () => {
    await using testbed = await open();
    const { stdout } = await sh(
      testbed,
      'echo pids /proc/[0-9]*; cut -d" " -f5 /proc/self/mountinfo; echo x >/etc/resolv.conf',
    );
    expect(stdout.match(/\/proc\/\d+/g)?.length).toBeLessThan(8);
    expect(stdout).not.toContain(state.root);
    expect(await readFile('/etc/resolv.conf', 'utf8')).not.toBe('x\n');
    await sh(testbed, 'echo changed >/etc/os-release; rm /bin/cat');
    expect(existsSync(path.join(layer, 'bin/cat'))).toBe(true);
    expect(await readFile(path.join(layer, 'etc/os-release'), 'utf8')).not.toBe('changed\n');
  });

  test('revert throws every change away', async () => {
    await using testbed = await open();
    await sh(testbed, 'touch /root/mark; rm -rf /var/lib/dpkg');
    await testbed.revert?.(never);
    expect((await sh(testbed, 'test ! -e /root/mark && test -s /var/lib/dpkg/status')).code).toBe(0);
  });

  test('dispose ends every process and leaves no folder; a late command is refused', async () => {
    const sessionId = newId();
    const testbed = await open({ sessionId });
    await sh(testbed, `sh -c 'exec -a ${sessionId} sleep 1000' >/dev/null 2>&1 & setsid sleep 1000 >/dev/null 2>&1 &`);
    const { auxverb } = testbed;
    await testbed[Symbol.asyncDispose]();
    await testbed[Symbol.asyncDispose]();
    expect(await readdir(state.sessions)).not.toContain(`overlay-${sessionId}`);
    expect(await mountsUnder(state.root)).toEqual([]);
    expect((await run([...auxverb, 'true'])).code).toBe(254);
    await emptyTrash(state.trash, { wait: true });
    expect(await readdir(state.trash)).toEqual([]);
  });

  test('a late command does not enter the testbed that was opened meanwhile', async () => {
    const first = await open();
    const { auxverb } = first;
    await first[Symbol.asyncDispose]();
    await using second = await open();
    expect((await sh(second, 'true')).code).toBe(0);
    const late = await run([...auxverb, 'touch', '/root/stranger']);
    expect(late.stderr).toMatch(/^overlay-enter: the testbed is gone: process \d+: No such file or directory\n$/);
    expect([late.code, (await sh(second, 'test -e /root/stranger')).code]).toEqual([254, 1]);
    // as if its process id had been given out again
    const reused = second.auxverb.map((word) => word.replace(/^(process:\d+:)\d+$/, '$11'));
    expect(await run([...reused, 'true'])).toMatchObject({
      code: 254,
      stderr: expect.stringMatching(/is another one/),
    });
  });

  test('captured changes become a layer on which a new testbed opens', async () => {
    const keepChangesIn = path.join(state.root, `candidate-${newId()}`, 'layer');
    await mkdir(keepChangesIn, { recursive: true });
    const writer = await open({ keepChangesIn });
    await sh(
      writer,
      'echo new >/root/mark; rm /etc/hostname; mkdir -p /opt/a && rm -rf /usr/share/doc && mkdir /usr/share/doc',
    );
    await writer.capture?.(never);
    await writer[Symbol.asyncDispose]();
    const content = { layers: [layer, keepChangesIn] };
    await using reader = await overlayBackend(state).open(content, { sessionId: newId() }, never);
    const script = 'cat /root/mark; test ! -e /etc/hostname && test -d /opt/a && test -z "$(ls -A /usr/share/doc)"';
    expect(await sh(reader, script)).toMatchObject({ code: 0, stdout: 'new\n' });
    expect(await readdir(path.join(keepChangesIn, '..'))).toContain('layer');
  });

  test('an abort while opening leaves nothing', async () => {
    const stop = new AbortController();
    const sessionId = newId();
    const opening = overlayBackend(state).open({ layers: [layer] }, { sessionId }, stop.signal);
    stop.abort(new Error('enough'));
    await expect(opening).rejects.toThrow('enough');
    expect(await readdir(state.sessions)).not.toContain(`overlay-${sessionId}`);
  });

  test('a missing layer is one clear error', async () => {
    const opening = overlayBackend(state).open({ layers: ['/no/such'] }, { sessionId: newId() }, never);
    await expect(opening).rejects.toThrow(/mount overlay.*No such file/);
  });

  test('kill -9 of the owner: its processes die with it, and the next process reaps the rest', async () => {
    const sessionId = newId();
    const script = fileURLToPath(new URL('fixtures/hold-testbed.ts', import.meta.url));
    const holder = spawn(process.execPath, ['--import', 'tsx', script, state.root, layer, sessionId], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [chunk] = (await once(holder.stdout, 'data')) as [Buffer];
    const inside = Number(chunk.toString());
    expect(existsSync(`/proc/${inside}`)).toBe(true);
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    expect(await overlayBackend(state).reap()).toContain(sessionId);
    expect(await readdir(state.sessions)).not.toContain(`overlay-${sessionId}`);
    await gone(inside);
    expect(await mountsUnder(state.root)).toEqual([]);
  });
});

/** Mounts of the host (our own mount namespace) below a folder. */
async function mountsUnder(folder: string): Promise<string[]> {
  const lines = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n');
  return lines.map((line) => line.split(' ')[4] ?? '').filter((point) => point.startsWith(folder));
}

/** Waits until the kernel has taken a process down. */
function gone(pid: number): Promise<void> {
  return until(() => !existsSync(`/proc/${pid}`));
}
