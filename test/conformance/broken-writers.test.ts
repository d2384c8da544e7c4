/**
 * Writers of an image whose disk is full or read-only, or that are stopped: whatever happens, the image opens, and is the
 * old one or the new one. Killed ones are in killed-updates.test.ts.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { check, run } from '../../src/exec/run.ts';
import { emptyTrash } from '../../src/exec/trash.ts';
import { readHead } from '../../src/golden/store.ts';
import { verifyGeneration } from '../../src/golden/verify-generation.ts';
import { decodeArgv } from '../../src/protocol/adt-virt/words.ts';
import { testCache } from './fixtures/base-image.ts';
import { baseRoot, Goldbed, virtProgram } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';
import { Wire, type ServerUnderTest } from './vectors/describe-virt-server.ts';

const image = 'victim';
const never = new AbortController().signal;
const noOverlay = await overlayBackend(stateAt('/nonexistent')).unavailable();
const notRoot = process.getuid?.() === 0 ? undefined : 'not root';

let root: string;
beforeAll(async () => {
  root = await mkdtemp(path.join(testCache(), 'broken-'));
  const made = await new Goldbed(root).run('image', 'import', image, await baseRoot());
  expect(made.code, made.stderr).toBe(0);
});
afterAll(async () => {
  await emptyTrash(stateAt(root).trash, { wait: true });
  await rm(root, { recursive: true, force: true });
});

const server = (backend: string, state = root): ServerUnderTest => ({
  argv: [virtProgram, backend, image],
  env: {
    GOLDBED_NODE: process.execPath,
    GOLDBED_STATE: state,
    GOLDBED_GOLDEN_WAIT: '30',
  },
  revert: true,
});

const sh = async (wire: Wire, script: string): Promise<{ code: number; stdout: string }> => {
  const reply = await wire.ask('print-execute-command');
  if (!reply.startsWith('ok ')) return { code: 254, stdout: '' };
  return run([...decodeArgv(reply.slice(3)), '/bin/sh', '-c', script]);
};

async function stampOf(backend: string): Promise<string> {
  const wire = new Wire(server(backend));
  expect(await wire.ask('open')).toMatch(/^ok /);
  const { stdout } = await sh(wire, 'cat /root/stamp 2>/dev/null');
  expect(await wire.quit()).toBe(0);
  return stdout.trim();
}

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

  /** One folder of the state becomes read-only, as a mount of its own. */
  const readOnly = async (folder: string): Promise<AsyncDisposable> => {
    await check(['mount', '--bind', folder, folder]);
    await check(['mount', '-o', 'remount,bind,ro', folder]);
    return { [Symbol.asyncDispose]: async () => void (await check(['umount', folder])) };
  };

  test('read-only images: they are looked at and opened as ever, and not written', async () => {
    const disk = await small(1000);
    try {
      const goldbed = new Goldbed(disk);
      const before = await readHead(stateAt(disk), image);
      await mkdir(path.join(disk, 'images', image, 'pins'), { recursive: true });
      await writeFile(path.join(disk, 'images', image, 'pins/dead.json'), deadPin(before.generation));
      {
        await using _ = await readOnly(path.join(disk, 'images'));
        const wire = new Wire(server('overlay', disk));
        expect(await wire.ask('capabilities')).not.toContain('golden-image');
        expect(await wire.ask('open')).toMatch(/^ok /);
        expect((await sh(wire, 'touch /root/here && dpkg --audit')).code).toBe(0);
        expect(await wire.quit()).toBe(0);
        for (const args of [['ls'], ['show', image], ['history', image], ['diff', image], ['verify', image]]) {
          const looked = await goldbed.run('image', ...args);
          expect([args[0], looked.code, looked.stderr]).toEqual([args[0], 0, '']);
        }
        const refused = await goldbed.run('image', 'gc', image);
        expect([refused.code, refused.stderr]).toEqual([69, expect.stringMatching(/^goldbed: .*read-only.*\n$/)]);
      }
      expect(await readHead(stateAt(disk), image)).toEqual(before);
    } finally {
      await gone(disk);
    }
  });

  test('a read-only state folder: one line says what it needs, and the image is intact', async () => {
    const disk = await small(1000);
    try {
      const before = await readHead(stateAt(disk), image);
      await check(['mount', '-o', 'remount,ro', disk]);
      const { argv, env = {} } = server('overlay', disk);
      const opened = await run(['/bin/sh', '-c', 'echo open | "$@"', 'sh', ...argv], {
        env: { PATH: '/usr/bin:/bin', ...env },
      });
      expect(opened.stdout).toBe('ok\n'); // the banner
      expect(opened.stderr).toMatch(/^goldbed-virt: \S+ is on a read-only file system: .*\n$/);
      expect(await readHead(stateAt(disk), image)).toEqual(before);
    } finally {
      await gone(disk);
    }
  });
});

/** Of a process that is gone. */
function deadPin(generation: number): string {
  const process = { pid: 1, started: 'never', bootId: 'another' };
  return JSON.stringify({
    v: 1,
    session: 'dead',
    process,
    since: new Date().toISOString(),
    generation,
    what: 'a test',
  });
}

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
