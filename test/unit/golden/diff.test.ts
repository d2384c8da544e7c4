/** How two generations differ, from what is on disk: versions, security updates, sizes, and a parent that is gone. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { beginWrite } from '../../../src/golden/candidate.ts';
import { collect } from '../../../src/golden/collect.ts';
import { diffGenerations } from '../../../src/golden/diff.ts';
import { details, never, publishFiles, temporaryState, type TemporaryState } from './fixtures/images.ts';

let state: TemporaryState;
beforeEach(async () => {
  state = await temporaryState();
});
afterEach(() => state[Symbol.asyncDispose]());

const first = 'hello\t1\tamd64\t100\nlibc6\t1\tamd64\t1000\nold\t1\tall\t50\n';
const second = 'hello\t2\tamd64\t120\nlibc6\t2\tamd64\t1000\nnew\t1\tall\t7\n';

/** What apt-get indextargets calls a list, in the compressions in which apt may keep it. */
const compressed = {
  '': (text: string): Buffer => Buffer.from(text),
  '.gz': (text: string): Buffer => gzipSync(text),
  '.xz': (text: string): Buffer => execFileSync('/usr/bin/xz', ['--stdout'], { input: text }),
  '.lz4': lz4,
} as const;

/** A frame with one block, stored as it is (lz4_Frame_format.md): the program lz4 is not on every host. */
function lz4(text: string): Buffer {
  const header = Buffer.from([0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82]);
  const length = Buffer.alloc(4);
  length.writeUInt32LE((text.length | 0x80_00_00_00) >>> 0);
  return Buffer.concat([header, length, Buffer.from(text), Buffer.alloc(4)]);
}

/** A generation that stands on no other, with package lists. */
async function publishLists(manifest: string, lists: Readonly<Record<string, Buffer>>): Promise<void> {
  await using candidate = await beginWrite(state, 'img', { fence: Date.now() * 1000 + fence++, by: 'me' });
  const folder = path.join(candidate.layerDirectory, 'var/lib/apt/lists');
  mkdirSync(folder, { recursive: true });
  for (const [name, content] of Object.entries(lists)) writeFileSync(path.join(folder, name), content);
  await candidate.publish({ ...details, strategy: 'replace', manifest }, never);
}
let fence = 0;

const stanza = (name: string, version: string): string =>
  `Package: ${name}\nSource: src\nVersion: ${version}\nDescription: d\n Version: 9\n\n`;

describe('security updates', () => {
  test.each(Object.keys(compressed) as (keyof typeof compressed)[])('in a list%s', async (ending) => {
    await publishLists(first, {});
    await publishLists(second, {
      [`mirror_dists_stable_main_binary-amd64_Packages${ending}`]: compressed[ending](stanza('hello', '2')),
      [`mirror_dists_stable-security_main_binary-amd64_Packages${ending}`]: compressed[ending](
        stanza('libc6', '2') + stanza('old', '3'),
      ),
    });
    const { changed, added } = await diffGenerations(state, 'img', undefined, undefined, never);
    expect(changed).toEqual([
      { name: 'hello', arch: 'amd64', version: '2', from: '1' },
      { name: 'libc6', arch: 'amd64', version: '2', from: '1', security: true },
    ]);
    expect(added).toEqual([{ name: 'new', arch: 'all', version: '1' }]);
  });

  test('of an archive that says so in its Release file only', async () => {
    await publishLists(first, {});
    await publishLists(second, {
      mirror_one_dists_stable_InRelease: Buffer.from('Origin: Debian\nLabel: Debian\nSuite: stable\n'),
      'mirror_one_dists_stable_main_binary-amd64_Packages': Buffer.from(stanza('hello', '2')),
      mirror_two_dists_stable_Release: Buffer.from('Origin: Debian\nLabel: Debian-Security\nSuite: stable\n'),
      'mirror_two_dists_stable_main_binary-amd64_Packages': Buffer.from(stanza('libc6', '2')),
    });
    const { changed } = await diffGenerations(state, 'img', undefined, undefined, never);
    expect(changed.map(({ name, security }) => [name, security])).toEqual([
      ['hello', undefined],
      ['libc6', true],
    ]);
  });
});

describe('sizes', () => {
  test('are those of the installed packages: what is removed makes it smaller, whatever the layers weigh', async () => {
    await publishFiles(state, 'img', { a: 'x'.repeat(1000) }, { details: { manifest: first } });
    await publishFiles(state, 'img', { b: 'x'.repeat(9000) }, { details: { manifest: second } });
    const diff = await diffGenerations(state, 'img', undefined, undefined, never);
    expect([diff.from.installed, diff.to.installed, diff.bytes]).toEqual([1150 * 1024, 1127 * 1024, -23 * 1024]);
  });

  test('are not known of a manifest that tells none', async () => {
    await publishFiles(state, 'img', { a: '1' }, { details: { manifest: 'hello\t1\tamd64\n' } });
    await publishFiles(state, 'img', { b: '1' }, { details: { manifest: second } });
    const diff = await diffGenerations(state, 'img', undefined, undefined, never);
    expect([diff.from.installed, diff.bytes]).toEqual([undefined, undefined]);
  });
});

describe('a parent that was collected', () => {
  test('the next generation remembers what it changed', async () => {
    await publishLists(first, {});
    await publishLists(second, {});
    expect(await collect(state, 'img', { keep: 1 })).toEqual([1]);
    const diff = await diffGenerations(state, 'img', undefined, undefined, never);
    expect([diff.from.generation, diff.to.generation, diff.bytes]).toEqual([1, 2, -23 * 1024]);
    expect([diff.added, diff.removed, diff.changed].map((some) => some.length)).toEqual([1, 1, 2]);
    expect(await diffGenerations(state, 'img', 1, 2, never)).toEqual(diff);
    await expect(diffGenerations(state, 'img', 1, 1, never)).rejects.toThrow('img has no generation 1 (it has 2)');
  });

  test('the first generation differs from none', async () => {
    const record = await publishFiles(state, 'img', { a: '1' });
    expect(record.changes).toBeUndefined();
    const diff = await diffGenerations(state, 'img', undefined, undefined, never);
    expect([diff.from.generation, diff.added, diff.removed, diff.changed]).toEqual([1, [], [], []]);
  });

  test('the counts are in the record: telling the history reads no lists', async () => {
    await publishFiles(state, 'img', { a: '1' }, { details: { manifest: first } });
    const record = await publishFiles(state, 'img', { b: '1' }, { details: { manifest: second } });
    expect(record.changes).toEqual({ added: 1, removed: 1, changed: 2 });
  });
});
