/** From what the user typed to what a request carries, with real files and the real dpkg-source. */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { takeFile } from '../../../src/artifacts/store.ts';
import { UsageError } from '../../../src/protocol/errors.ts';
import { resolveSource, resolveSubject } from '../../../src/producer/source.ts';

let folder: string;
let artifacts: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'goldbed-source-test-'));
  artifacts = path.join(folder, 'artifacts');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

async function writeDsc(
  options: { tarball?: string; says?: string; name?: string; signed?: boolean } = {},
): Promise<string> {
  const { tarball = 'content', says = tarball, name = 'toy_1.0.tar.xz', signed = false } = options;
  await writeFile(path.join(folder, 'toy_1.0.tar.xz'), tarball);
  const body = `Format: 3.0 (native)\nSource: toy\nVersion: 1.0\nChecksums-Sha256:\n ${sha256(says)} ${says.length} ${name}\n`;
  const file = path.join(folder, 'toy_1.0.dsc');
  const head = '-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n';
  const tail = '\n-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----\n';
  await writeFile(file, signed ? `${head}${body}${tail}` : body);
  return file;
}

describe('a .dsc', () => {
  test('is verified and its files are kept by content', async () => {
    const source = await resolveSource(await writeDsc({ signed: true }), artifacts);
    expect(source).toMatchObject({ type: 'dsc', package: 'toy', version: '1.0', main: 'toy_1.0.dsc' });
    if (source.type !== 'dsc') throw new Error('not a dsc');
    expect(source.files.map(({ name }) => name)).toEqual(['toy_1.0.dsc', 'toy_1.0.tar.xz']);
    await rm(path.join(folder, 'toy_1.0.tar.xz'));
    await takeFile(artifacts, sha256('content'), path.join(folder, 'again'));
    expect(await readFile(path.join(folder, 'again'), 'utf8')).toBe('content');
  });

  test('the same files give the same request wherever they lie', async () => {
    const first = await resolveSource(await writeDsc(), artifacts);
    expect(await resolveSource(await writeDsc(), path.join(folder, 'other'))).toEqual(first);
  });

  const wrong: [string, Parameters<typeof writeDsc>[0], RegExp][] = [
    ['a checksum that does not match', { says: 'CONTENT' }, /toy_1\.0\.tar\.xz: checksum mismatch/],
    ['a file that is missing', { name: 'other.tar.xz' }, /other\.tar\.xz: named by toy_1\.0\.dsc, but cannot be read/],
    ['a file outside of its folder', { name: '../../etc/passwd' }, /not a plain file name/],
    ['a hidden file', { name: '.profile' }, /not a plain file name/],
  ];
  test.each(wrong)('%s is one clear error', async (_, options, message) => {
    const file = await writeDsc(options);
    await expect(resolveSource(file, artifacts)).rejects.toThrow(message);
    await expect(resolveSource(file, artifacts)).rejects.toBeInstanceOf(UsageError);
    const kept = await readdir(artifacts).catch(() => []);
    expect(kept.filter((name) => name.startsWith('.'))).toEqual([]);
  });

  test('one that does not exist, or is none, names itself', async () => {
    await expect(resolveSource('no-such.dsc', artifacts)).rejects.toThrow(/no-such\.dsc: cannot be read/);
    await writeFile(path.join(folder, 'x.dsc'), '<html>');
    await expect(resolveSource(path.join(folder, 'x.dsc'), artifacts)).rejects.toThrow(
      /x\.dsc:1: expected "Field: value"/,
    );
  });
});

describe('an unpacked source directory', () => {
  test('becomes a source package by dpkg-source', async () => {
    const tree = path.join(folder, 'toy-2.0');
    await mkdir(path.join(tree, 'debian/source'), { recursive: true });
    await writeFile(path.join(tree, 'debian/source/format'), '3.0 (native)\n');
    await writeFile(
      path.join(tree, 'debian/control'),
      'Source: toy\nMaintainer: A <a@example.org>\n\nPackage: toy\nArchitecture: all\nDescription: x\n',
    );
    const signature = ' -- A <a@example.org>  Mon, 23 Nov 2026 12:00:00 +0000\n';
    await writeFile(path.join(tree, 'debian/changelog'), `toy (2.0) unstable; urgency=low\n\n  * x\n\n${signature}`);
    const source = await resolveSource(tree, artifacts);
    expect(source).toMatchObject({ type: 'dsc', package: 'toy', version: '2.0', main: 'toy_2.0.dsc' });
    expect(await readdir(folder)).not.toContain('toy_2.0.dsc');
  });

  test('without debian/changelog it is refused', async () => {
    await expect(resolveSource(folder, artifacts)).rejects.toThrow(/not an unpacked source package/);
  });
});

describe('a package name', () => {
  test('with or without a version', async () => {
    expect(await resolveSource('hello', artifacts)).toEqual({ type: 'archive', package: 'hello' });
    expect(await resolveSource('hello=1:2.10-3', artifacts)).toEqual({
      type: 'archive',
      package: 'hello',
      version: '1:2.10-3',
    });
  });
  test.each(['Hello', 'hello=', 'hello=$(id)', '-x', 'a b'])('%s is none', async (word) => {
    await expect(resolveSource(word, artifacts)).rejects.toThrow(/expected a \.dsc/);
  });
});

describe('a .changes', () => {
  async function writeChanges(): Promise<string> {
    await writeFile(path.join(folder, 'toy_1.0_all.deb'), 'deb');
    const file = path.join(folder, 'toy_1.0_all.changes');
    await writeFile(file, `Source: toy\nVersion: 1.0\nChecksums-Sha256:\n ${sha256('deb')} 3 toy_1.0_all.deb\n`);
    return file;
  }

  test('alone has no source of its own', async () => {
    const subject = await resolveSubject(await writeChanges(), artifacts);
    expect(subject).toMatchObject({ type: 'changes', main: 'toy_1.0_all.changes' });
    expect(subject).not.toHaveProperty('source');
    await expect(resolveSource(await writeChanges(), artifacts)).rejects.toThrow(/expected a source package/);
  });

  test('takes the .dsc beside it along', async () => {
    await writeDsc();
    const subject = await resolveSubject(await writeChanges(), artifacts);
    expect(subject).toMatchObject({ type: 'changes', source: 'toy_1.0.dsc' });
  });
});
