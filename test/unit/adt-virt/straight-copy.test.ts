/** Single files of a testbed whose root this host sees, without any program of the testbed. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readdirSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { copyDown, copyUp, type CopyOptions } from '../../../src/protocol/adt-virt/copy.ts';

let folder: string;
let opened: number[];
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'goldbed straight-'));
  opened = [];
  await mkdir(at('root/sub'), { recursive: true });
});
afterEach(() => rm(folder, { recursive: true }));

const at = (name: string): string => path.join(folder, name);
/** A testbed with nothing in it that runs. */
const options = (more: Partial<CopyOptions> = {}): CopyOptions => ({
  auxverb: ['/bin/false'],
  openRoot: async () => {
    const root = openSync(at('root'), constants.O_RDONLY | constants.O_DIRECTORY);
    opened.push(root);
    return root;
  },
  timeout: 0,
  signal: new AbortController().signal,
  log: () => {},
  ...more,
});
const modeOf = async (name: string): Promise<string> => ((await stat(at(name))).mode & 0o7777).toString(8);

test.each([0, 5, 4 * 1024 * 1024, 4 * 1024 * 1024 + 1])('%i bytes down and up, with their mode', async (bytes) => {
  const content = Buffer.alloc(bytes, '\0\xff\n');
  await writeFile(at('a'), content);
  await chmod(at('a'), 0o4750);
  expect(await copyDown(at('a'), '/sub//b', options())).toBe('ok');
  await writeFile(at('c'), 'longer than what comes'.repeat(1000));
  expect(await copyUp('/sub/./b', at('c'), options())).toBe('ok');
  expect((await readFile(at('c'))).equals(content)).toBe(true);
  expect([await modeOf('root/sub/b'), await modeOf('c')]).toEqual(['4750', '750']);
});

test('a file that is there is written anew, and stays the same file', async () => {
  await writeFile(at('root/sub/b'), 'a longer text');
  const before = await stat(at('root/sub/b'));
  await writeFile(at('a'), 'x');
  expect(await copyDown(at('a'), '/sub/b', options())).toBe('ok');
  expect([(await stat(at('root/sub/b'))).ino, await readFile(at('root/sub/b'), 'utf8')]).toEqual([before.ino, 'x']);
});

/** What is left to the testbed's own programs, of which this one has none. */
const outOfTheWay: Record<string, string> = {
  'a link on the way': '/link/file',
  'a link at the end': '/sub/link',
  'a way back': '/sub/../../outside/file',
  'no absolute path': 'sub/file',
  'the root itself': '/',
  'a FIFO': '/sub/fifo',
  'a folder': '/sub',
};
test.each(Object.keys(outOfTheWay))('%s is left alone', async (name) => {
  await mkdir(at('outside'));
  await writeFile(at('outside/file'), 'outside');
  await symlink(at('outside'), at('root/link'));
  await symlink(at('outside/file'), at('root/sub/link'));
  execFileSync('mkfifo', [at('root/sub/fifo')]);
  await writeFile(at('a'), 'inside');
  const file = outOfTheWay[name] ?? '';
  expect(await copyDown(at('a'), file.replace(/^\/$/, '/.'), options())).toBe('copy-failed');
  expect(await copyUp(file.replace(/^\/$/, '/.'), at('c'), options())).toBe('copy-failed');
  expect([await readFile(at('outside/file'), 'utf8'), await readFile(at('c'), 'utf8')]).toEqual(['outside', '']);
});

test.skipIf(process.getuid?.() !== 0)('nothing is asked of another mount', async () => {
  await writeFile(at('a'), 'x');
  execFileSync('mount', ['-t', 'tmpfs', 'none', at('root/sub')]);
  try {
    await writeFile(at('root/sub/file'), 'x');
    expect(await copyDown(at('a'), '/sub/file2', options())).toBe('copy-failed');
    expect(await copyUp('/sub/file', at('c'), options())).toBe('copy-failed');
    expect(readdirSync(at('root/sub'))).toEqual(['file']);
  } finally {
    execFileSync('umount', [at('root/sub')]);
  }
});

test('a root that cannot be opened is as one that is not seen; none stays open', async () => {
  await writeFile(at('a'), 'x');
  const before = readdirSync('/proc/self/fd').length;
  const refuses = async (): Promise<number> => {
    throw new Error('gone');
  };
  for (const openRoot of [refuses, async () => undefined])
    expect(await copyDown(at('a'), '/sub/b', options({ openRoot, auxverb: ['/usr/bin/env', 'true'] }))).toBe('ok');
  expect(await copyDown(at('a'), '/sub/b', options())).toBe('ok');
  expect(await copyDown(at('a'), '/none/b', options())).toBe('copy-failed');
  expect(readdirSync('/proc/self/fd').length).toBe(before);
  expect(() => closeSync(opened[0] ?? -1)).toThrow('EBADF');
});

test('who holds a file by a lease holds up nobody', async () => {
  await writeFile(at('a'), 'x');
  await writeFile(at('root/sub/held'), 'y');
  const hold = `open my $f, '+<', $ARGV[0] or die; $SIG{IO} = 'IGNORE'; fcntl $f, 1024, 1 or die; $| = 1; print "held\n"; sleep 60`;
  const holder = spawn('/usr/bin/perl', ['-e', hold, at('root/sub/held')], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    await once(holder.stdout, 'data');
    expect(await copyDown(at('a'), '/sub/held', options({ timeout: 10 }))).toBe('copy-failed');
    expect(await copyUp('/sub/held', at('c'), options({ timeout: 10 }))).toBe('copy-failed');
  } finally {
    holder.kill('SIGKILL');
  }
});

test('a root that is never told is given up with the signal', async () => {
  await writeFile(at('a'), 'x');
  const stop = new AbortController();
  const copying = copyDown(at('a'), '/sub/b', options({ openRoot: () => new Promise(() => {}), signal: stop.signal }));
  stop.abort(new Error('enough'));
  await expect(copying).rejects.toThrow('enough');
});

test('the time limit ends a large copy', async () => {
  await writeFile(at('a'), '');
  execFileSync('truncate', ['--size', '400G', at('a')]); // a hole
  expect(await copyDown(at('a'), '/sub/b', options({ timeout: 0.05 }))).toBe('timeout');
});
