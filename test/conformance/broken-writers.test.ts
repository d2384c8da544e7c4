/**
 * Writers of an image that are killed or stopped at any moment, or whose disk is full: whatever happens, the image opens, is
 * the old one or the new one by its digest, the next writer can, and nothing is left.
 */
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { isExecutable } from '../../src/exec/executable.ts';
import { check, run } from '../../src/exec/run.ts';
import { emptyTrash } from '../../src/exec/trash.ts';
import { readHead } from '../../src/golden/store.ts';
import { verifyGeneration } from '../../src/golden/verify-generation.ts';
import { decodeArgv } from '../../src/protocol/adt-virt/words.ts';
import { testCache } from './fixtures/base-image.ts';
import { dice, faults } from './fixtures/dice.ts';
import { dockerUnavailable, startDockerDaemon, type DockerDaemon } from './fixtures/docker-daemon.ts';
import { Goldbed, goldbedWithImage, smallImage, wholeLayer, virtProgram } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';
import { Wire, type ServerUnderTest } from './vectors/describe-virt-server.ts';

const image = 'victim';
const never = new AbortController().signal;
const noOverlay = await overlayBackend(stateAt('/nonexistent')).unavailable();
const notRoot = process.getuid?.() === 0 ? undefined : 'not root';
const noSchroot = notRoot ?? (isExecutable('/usr/bin/schroot') ? undefined : 'apt-get install schroot');

let root: string;
let daemon: DockerDaemon | undefined;
beforeAll(async () => {
  const { state } = await goldbedWithImage(smallImage);
  root = await mkdtemp(path.join(testCache(), 'broken-'));
  const made = await new Goldbed(root).run('image', 'import', image, await wholeLayer(state, smallImage.name));
  expect(made.code, made.stderr).toBe(0);
  if (dockerUnavailable() === undefined) daemon = await startDockerDaemon();
});
afterAll(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await emptyTrash(stateAt(root).trash, { wait: true });
  await rm(root, { recursive: true, force: true });
});

const server = (backend: string, state = root): ServerUnderTest => ({
  argv: [virtProgram, backend, image],
  env: {
    GOLDBED_NODE: process.execPath,
    GOLDBED_STATE: state,
    GOLDBED_GOLDEN_WAIT: '30',
    GOLDBED_DOCKER_SOCKET: daemon?.socket ?? '/nonexistent',
    GOLDBED_DOCKER_NETWORK: 'host',
  },
  revert: true,
});

const sh = async (wire: Wire, script: string): Promise<{ code: number; stdout: string }> => {
  const reply = await wire.ask('print-execute-command');
  if (!reply.startsWith('ok ')) return { code: 254, stdout: '' };
  return run([...decodeArgv(reply.slice(3)), '/bin/sh', '-c', script]);
};

/** One write, from the start of the server to its end; `stamp` is in the image if it was published. */
async function write(wire: Wire, stamp: string): Promise<string> {
  await wire.ask('open-golden');
  await sh(wire, `echo ${stamp} >/root/stamp; cp -a /usr/share/doc /root/doc-${stamp}; rm -rf /root/doc-*`);
  return wire.ask('commit-golden');
}

async function stampOf(backend: string): Promise<string> {
  const wire = new Wire(server(backend));
  expect(await wire.ask('open')).toMatch(/^ok /);
  const { stdout } = await sh(wire, 'cat /root/stamp 2>/dev/null');
  expect(await wire.quit()).toBe(0);
  return stdout.trim();
}

function killEveryMoment(backend: string): void {
  test(`SIGKILL at ${faults(20)} random moments: old or new, never anything else`, { timeout: 3_600_000 }, async () => {
    const random = dice(`killed writers on ${backend}`);
    const begun = performance.now();
    const first = new Wire(server(backend));
    expect(await write(first, 'whole')).toBe('ok');
    const whole = performance.now() - begun;
    await first.quit();
    let [old, published] = [await stampOf(backend), 0];
    for (let round = 0; round < faults(20); round++) {
      const stamp = `round-${round}`;
      const writer = new Wire(server(backend));
      const ended = once(writer.child, 'exit');
      const said = write(writer, stamp).catch(() => 'gone');
      await Promise.race([delay(random.roll(whole * 1.5)), said]); // a moment, not a wait: any one must do
      writer.child.kill('SIGKILL');
      await ended;
      const now = await stampOf(backend);
      expect([old, stamp]).toContain(now);
      if ((await said) === 'ok') expect(now).toBe(stamp);
      if (now === stamp) published += 1;
      old = now;
      expect((await verifyGeneration(stateAt(root), image, undefined, never)).damaged).toEqual([]);
    }
    const last = new Wire(server(backend));
    expect(await write(last, 'last')).toBe('ok');
    expect(await last.quit()).toBe(0);
    expect(await stampOf(backend)).toBe('last');
    process.stderr.write(`killed writers on ${backend}: ${published} of ${faults(20)} had published\n`);
    expect(await leftovers()).toEqual({ sessions: [], work: [], pins: [], mounts: [] });
  });
}

async function leftovers(): Promise<unknown> {
  const at = (name: string): string[] => readdirSync(path.join(root, name)).filter((entry) => !entry.startsWith('.'));
  const mounts = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n').filter((line) => line.includes(root));
  return { sessions: at('sessions'), work: at(`images/${image}/work`), pins: at(`images/${image}/pins`), mounts };
}

describeWith('overlay', noOverlay, 'on overlay', () => killEveryMoment('overlay'));
describeWith('schroot', noSchroot, 'on schroot', () => killEveryMoment('schroot'));
describeWith('docker', dockerUnavailable(), 'on docker', () => killEveryMoment('docker'));

describeWith('overlay', noOverlay ?? notRoot, 'a disk that does not do what it should', () => {
  /** A copy of the state on a small file system of its own. */
  const small = async (megabytes: number): Promise<string> => {
    const disk = await mkdtemp(path.join(testCache(), 'disk-'));
    await check(['mount', '-t', 'tmpfs', '-o', `size=${megabytes}m,mode=755`, 'goldbed-test', disk]);
    const head = await readHead(stateAt(root), image);
    await mkdir(path.join(disk, 'images'));
    await check(['/bin/cp', '--archive', path.join(root, 'images', image), path.join(disk, 'images')]);
    expect((await readHead(stateAt(disk), image)).digest).toBe(head.digest);
    return disk;
  };
  const gone = async (disk: string): Promise<void> => {
    await check(['umount', disk]);
    await rm(disk, { recursive: true });
  };

  test('full in the middle of a write: refused, and the old image is intact', async () => {
    await new Goldbed(root).run('image', 'gc', image, '--keep', '1');
    const { bytes } = await readHead(stateAt(root), image);
    const disk = await small(Math.round(bytes / 1e6) + 120);
    try {
      const before = await readHead(stateAt(disk), image);
      const wire = new Wire(server('overlay', disk));
      expect(await wire.ask('open-golden')).toMatch(/^ok /);
      const filled = await sh(wire, 'head -c 1000000000 /dev/zero >/root/big');
      expect(filled.code).not.toBe(0);
      expect(await wire.ask('commit-golden')).toBe('commit-failed');
      expect(await wire.ask('open')).toMatch(/^ok /); // the room is free again
      expect((await sh(wire, 'test ! -e /root/big && dpkg --audit')).code).toBe(0);
      expect(await wire.quit()).toBe(0);
      expect(await readHead(stateAt(disk), image)).toEqual(before);
      expect((await verifyGeneration(stateAt(disk), image, undefined, never)).damaged).toEqual([]);
      await emptyTrash(stateAt(disk).trash, { wait: true });
    } finally {
      await gone(disk);
    }
  });

  test('read-only: no session opens for writing, and the image is intact', async () => {
    const disk = await small(1000);
    try {
      const before = await readHead(stateAt(disk), image);
      await check(['mount', '-o', 'remount,ro', disk]);
      const wire = new Wire(server('overlay', disk));
      expect(await wire.ask('open-golden')).not.toMatch(/^ok/);
      expect(await readHead(stateAt(disk), image)).toEqual(before);
    } finally {
      await gone(disk);
    }
  });
});

describe('a writer that is stopped', () => {
  test.skipIf(noOverlay !== undefined)('keeps readers from nothing; when it goes on, it may publish', async () => {
    const writer = new Wire(server('overlay'));
    expect(await writer.ask('open-golden')).toMatch(/^ok /);
    await sh(writer, 'echo stopped >/root/stamp');
    writer.child.kill('SIGSTOP');
    const before = await stampOf('overlay');
    expect(before).not.toBe('stopped');
    writer.child.kill('SIGCONT');
    expect(await writer.ask('commit-golden')).toBe('ok');
    expect(await writer.quit()).toBe(0);
    expect(await stampOf('overlay')).toBe('stopped');
  });
});
