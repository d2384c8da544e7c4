/** Copies with a testbed that is this host, and with one that lies. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, lstat, mkdir, mkdtemp, readFile, readlink, rm, stat, symlink, link, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { copyDown, copyUp, type CopyOptions } from '../../../src/protocol/adt-virt/copy.ts';
import type { Argv } from '../../../src/protocol/testbed.ts';

let folder: string;
let said: string[];
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'goldbed copy-'));
  said = [];
});
afterEach(() => {
  execFileSync('/bin/chmod', ['-R', 'u+rwX', folder]);
  return rm(folder, { recursive: true });
});

const at = (name: string): string => path.join(folder, name);
const options = (more: Partial<CopyOptions> = {}): CopyOptions => ({
  auxverb: ['/usr/bin/env', '--'],
  timeout: 0,
  signal: new AbortController().signal,
  log: (line) => void said.push(line),
  ...more,
});
/** A testbed that sends this archive whatever it is asked for. */
const sends = (file: string): Argv => ['/bin/sh', '-c', 'exec /bin/cat "$0"', file];
const modeOf = async (name: string): Promise<string> => ((await stat(at(name))).mode & 0o7777).toString(8);
const read = (name: string): Promise<string> => readFile(at(name), 'utf8');

test('a file keeps its mode and loses none of its bytes, both ways', async () => {
  const content = Buffer.alloc(300_000, '\0\xff\n');
  await writeFile(at('a'), content);
  await chmod(at('a'), 0o750);
  expect(await copyDown(at('a'), at('b'), options())).toBe('ok');
  expect(await copyUp(at('b'), at('c'), options())).toBe('ok');
  expect((await readFile(at('c'))).equals(content)).toBe(true);
  expect([await modeOf('b'), await modeOf('c')]).toEqual(['750', '750']);
});

test.skipIf(process.getuid?.() !== 0)('a device of this host takes the bytes, and keeps its mode', async () => {
  execFileSync('/bin/mknod', ['--mode=666', at('null'), 'c', '1', '3']);
  await writeFile(at('secret'), 'x', { mode: 0o600 });
  expect(await copyUp(at('secret'), at('null'), options())).toBe('ok');
  expect(await modeOf('null')).toBe('666');
});

test('trees merge both ways, with links, hard links and modes', async () => {
  await mkdir(at('tree/sub'), { recursive: true });
  await writeFile(at('tree/sub/f'), 'new');
  await link(at('tree/sub/f'), at('tree/hard'));
  await symlink('nowhere', at('tree/dangling'));
  await chmod(at('tree/sub'), 0o555);
  for (const target of ['down', 'up']) {
    await mkdir(at(`${target}/sub`), { recursive: true });
    await writeFile(at(`${target}/sub/old`), 'old');
    await writeFile(at(`${target}/sub/f`), 'replaced');
  }
  expect(await copyDown(`${at('tree')}/`, `${at('down')}/`, options())).toBe('ok');
  expect(await copyUp(`${at('tree')}/`, `${at('up')}/`, options())).toBe('ok');
  expect(await copyUp(`${at('tree')}/`, `${at('fresh')}/`, options())).toBe('ok');
  for (const target of ['down', 'up']) {
    expect([await read(`${target}/sub/f`), await read(`${target}/sub/old`)]).toEqual(['new', 'old']);
    expect(await readlink(at(`${target}/dangling`))).toBe('nowhere');
    expect((await stat(at(`${target}/hard`))).ino).toBe((await stat(at(`${target}/sub/f`))).ino);
  }
  expect(await modeOf('fresh/sub')).toBe('555');
});

test('names that are no UTF-8 arrive', async () => {
  const name = Buffer.concat([Buffer.from(at('tree/')), Buffer.from([0xff, 0xfe])]);
  await mkdir(at('tree'));
  await writeFile(name, 'x');
  await mkdir(at('up'));
  expect(await copyUp(`${at('tree')}/`, `${at('up')}/`, options())).toBe('ok');
  expect(existsSync(Buffer.concat([Buffer.from(at('up/')), Buffer.from([0xff, 0xfe])]))).toBe(true);
});

test('host paths are relative to the working directory of the server, folders too', async () => {
  // by way of src/, which `/` does not have
  const relative = (name: string): string => `src/../${path.relative(process.cwd(), at(name))}`;
  await mkdir(at('pk'));
  await writeFile(at('pk/f'), 'x');
  expect(await copyDown(`${relative('pk')}/`, `${at('down')}/`, options())).toBe('ok');
  expect(await copyUp(`${at('down')}/`, `${relative('up')}/`, options())).toBe('ok');
  expect(await read('up/f')).toBe('x');
});

test.each<[string, () => Promise<string>]>([
  ['a missing file up', () => copyUp(at('none'), at('up'), options())],
  ['a missing file down', () => copyDown(at('none'), at('down'), options())],
  ['a missing folder up', () => copyUp(`${at('none')}/`, `${at('up')}/`, options())],
  ['a missing folder down', () => copyDown(`${at('none')}/`, `${at('down')}/`, options())],
  ['a folder as a file down', () => copyDown(at('folder'), at('down'), options())],
  ['a folder as a file up', () => copyUp(at('folder'), at('up'), options())],
  ['a file as a folder', () => copyDown(`${at('file')}/`, `${at('down')}/`, options())],
  ['a folder onto a file', () => copyUp(`${at('folder')}/`, `${at('file')}/`, options())],
  ['into a missing folder', () => copyDown(at('file'), at('none/file'), options())],
  ['a FIFO down, which nobody writes to', () => copyDown(at('fifo'), at('down'), options())],
  ['onto a FIFO, which nobody reads', () => copyUp(at('file'), at('fifo'), options())],
])('%s: copy-failed, and why', async (_, copy) => {
  await mkdir(at('folder'));
  await writeFile(at('file'), 'x');
  execFileSync('/usr/bin/mkfifo', [at('fifo')]);
  expect(await copy()).toBe('copy-failed');
  expect(said.join('')).not.toBe('');
  expect(existsSync(at('down')) && (await stat(at('down'))).isFile()).toBe(false);
});

test('the time limit ends the processes on both sides; a limit beyond what timers can do is no limit', async () => {
  execFileSync('/usr/bin/mkfifo', [at('fifo')]);
  expect(await copyUp(at('fifo'), at('up'), options({ timeout: 1 }))).toBe('timeout');
  await writeFile(at('file'), 'x');
  expect(await copyUp(at('file'), at('up'), options({ timeout: 3_000_000 }))).toBe('ok');
});

test('an abort ends the copy and is told by its reason', async () => {
  execFileSync('/usr/bin/mkfifo', [at('fifo')]);
  const stop = new AbortController();
  const copy = copyUp(at('fifo'), at('up'), options({ signal: stop.signal }));
  stop.abort(new Error('enough'));
  await expect(copy).rejects.toThrow('enough');
});

/** Members of a hostile archive, in order. */
type Member =
  | { name: string; link: string }
  | { name: string; content?: string; mode?: number; kind?: 'fifo' | 'device' | 'folder' };

/** Python's tarfile writes what GNU tar would refuse to. */
function archive(name: string, members: readonly Member[]): string {
  const script = `import io, json, sys, tarfile
with tarfile.open(sys.argv[1], 'w') as tar:
    for member in json.loads(sys.argv[2]):
        info = tarfile.TarInfo(member['name'])
        info.mode = member.get('mode', 0o644)
        kinds = {'fifo': tarfile.FIFOTYPE, 'device': tarfile.BLKTYPE, 'folder': tarfile.DIRTYPE}
        info.type = kinds.get(member.get('kind'), tarfile.REGTYPE)
        info.devmajor, info.devminor = 7, 0
        if 'link' in member:
            info.type, info.linkname = tarfile.SYMTYPE, member['link']
        data = member.get('content', '').encode()
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))`;
  execFileSync('/usr/bin/python3', ['-c', script, at(name), JSON.stringify(members)]);
  return at(name);
}

test('one hostile archive writes nothing outside', async () => {
  await mkdir(at('victim'));
  const evil = archive('evil.tar', [
    { name: './x', link: at('victim') },
    { name: './x/1', content: 'evil' },
    { name: '../victim/2', content: 'evil' },
    { name: './y', link: '../victim' },
    { name: './y/3', content: 'evil' },
    { name: at('victim/4'), content: 'evil' },
  ]);
  await copyUp('/any/', `${at('up')}/`, options({ auxverb: sends(evil) }));
  execFileSync('/bin/rmdir', [at('victim')]); // it is empty
});

test('a link that one copy brought is not followed by the next (CVE-2025-45582)', async () => {
  await mkdir(at('victim'));
  await writeFile(at('secret'), 'untouched');
  const plants = archive('plants.tar', [
    { name: './x', link: at('victim') },
    { name: './file', link: at('secret') },
  ]);
  const uses = archive('uses.tar', [
    { name: './x/1', content: 'evil' },
    { name: './file', content: 'evil' },
  ]);
  const up = (from: string): Promise<string> => copyUp('/any/', `${at('up')}/`, options({ auxverb: sends(from) }));
  expect(await up(plants)).toBe('ok');
  expect(await readlink(at('up/x'))).toBe(at('victim')); // links are kept as they are
  await up(uses);
  expect(await read('secret')).toBe('untouched');
  expect((await lstat(at('up/file'))).isFile()).toBe(true);
  execFileSync('/bin/rmdir', [at('victim')]);
});

test('a file is not written through a link, nor a tree into one', async () => {
  await mkdir(at('victim'));
  await writeFile(at('secret'), 'untouched');
  await writeFile(at('file'), 'evil');
  await mkdir(at('tree'));
  await writeFile(at('tree/f'), 'evil');
  await symlink(at('secret'), at('to-secret'));
  await symlink(at('victim'), at('to-victim'));
  expect(await copyUp(at('file'), at('to-secret'), options())).toBe('copy-failed');
  expect(await copyUp(`${at('tree')}/`, `${at('to-victim')}/`, options())).toBe('copy-failed');
  expect(await read('secret')).toBe('untouched');
  execFileSync('/bin/rmdir', [at('victim')]);
});

test('set-id bits of a testbed do not reach the host', async () => {
  const evil = archive('evil.tar', [{ name: './shell', content: '', mode: 0o6755 }]);
  expect(await copyUp('/any/', `${at('up')}/`, options({ auxverb: sends(evil) }))).toBe('ok');
  expect(await modeOf('up/shell')).toBe('755');
});

test('devices and FIFOs of a testbed do not reach the host, in new folders or in old ones; the rest does', async () => {
  const inside = (name: string): Member[] => [
    { name: `./${name}`, kind: 'folder', mode: 0o755 },
    { name: `./${name}/file`, content: 'x' },
    { name: `./${name}/fifo`, kind: 'fifo', mode: 0o666 },
    // whoever is not root cannot make one, and tar fails on it
    ...(process.getuid?.() === 0 ? [{ name: `./${name}/device`, kind: 'device', mode: 0o666 } as const] : []),
    { name: `./${name}/closed`, kind: 'folder', mode: 0o555 },
    { name: `./${name}/closed/fifo\n`, kind: 'fifo' },
  ];
  const evil = archive('evil.tar', [...inside('old'), ...inside('new'), { name: './top', kind: 'fifo' }]);
  await mkdir(at('up/old'), { recursive: true });
  expect(await copyUp('/any/', `${at('up')}/`, options({ auxverb: sends(evil) }))).toBe('ok');
  const found = execFileSync('/usr/bin/find', [at('up'), '-mindepth', '1', '-printf', '%y %m %P\n'], {
    encoding: 'utf8',
  });
  expect(found.trim().split('\n').toSorted()).toEqual([
    ...['d 555 new/closed', 'd 555 old/closed', 'd 755 new', 'd 755 old'],
    ...['f 644 new/file', 'f 644 old/file'],
  ]);
  expect(said).toEqual([
    expect.stringMatching(/^goldbed-virt: not copied: ".+" and \d more: a device, a FIFO or a socket$/),
  ]);
});

test('a copy that fails leaves the folder as it was, and nothing of its own in it', async () => {
  await mkdir(at('up'));
  await writeFile(at('up/only'), 'here');
  await writeFile(at('broken.tar'), Buffer.alloc(2000, 'x'));
  expect(await copyUp('/any/', `${at('up')}/`, options({ auxverb: sends(at('broken.tar')) }))).toBe('copy-failed');
  expect(execFileSync('/bin/ls', ['-A', at('up')]).toString()).toBe('only\n');
});
