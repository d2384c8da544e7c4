/**
 * Random conversations with a server in this process, on an image that is a folder: every reply, the exit status and the
 * image are as the protocol says, and nothing is left. test/conformance/fuzz.test.ts does it to the real program.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setImmediate as immediate } from 'node:timers/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startInProcess } from '../../../src/protocol/adt-virt/pair.ts';
import { createDirectoryImage, directoryGoldenSource } from './fixtures/directory-golden-source.ts';
import { conversation, type Conversation } from './fixtures/fuzz-conversation.ts';
import { judge, type Image } from './fixtures/fuzz-expectation.ts';
import { fuzzParameters } from './fixtures/fuzz-parameters.ts';
import { play } from './fixtures/fuzz-play.ts';

const sandbox = mkdtempSync(path.join(tmpdir(), 'goldbed fuzz-'));
const at = (name: string): string => path.join(sandbox, name);
// relative paths are the testbed's, which is a folder here
const places = {
  file: at('file'),
  folder: at('folder/'),
  up: at('up/'),
  insideFile: at('file'),
  insideFolder: at('folder/'),
  insideNew: '',
};
beforeAll(() => {
  for (const folder of ['folder', 'up']) mkdirSync(at(folder));
  for (const file of ['file', 'folder/a b']) writeFileSync(at(file), 'content');
});
afterAll(() => rmSync(sandbox, { recursive: true }));

test('random conversations', { timeout: 3_600_000 }, async () => {
  const without = ['SIGKILL', 'SIGINT', 'SIGHUP', 'SIGQUIT'] as const; // of one process there is only one way to abort
  const shape = { places, maxCommands: 12, maxDelay: 20, without };
  const property = fc.asyncProperty(conversation(shape), async (one) => {
    expect(await complaints(one)).toEqual([]);
  });
  await fc.assert(property, fuzzParameters('unit fuzz', 500, 15_000));
});

async function complaints(one: Conversation): Promise<string[]> {
  const root = mkdtempSync(at('image-'));
  await createDirectoryImage(root);
  if (one.locked) writeFileSync(path.join(root, 'lock'), '');
  const options = { copyTimeout: 0, log: () => {}, signal: new AbortController().signal };
  const channel = startInProcess(directoryGoldenSource(root), options);
  const pause = async (delay: number): Promise<void> => {
    for (let i = 0; i < delay; i++) await immediate();
  };
  const { lines, exit } = await play({ ...channel, kill: () => channel.terminate(), pause }, one);
  const found = judge(one, { generation: 1, marks: [] }, { lines, exit, image: imageIn(root) });
  found.push(...left(root, one.locked, lines));
  rmSync(root, { recursive: true });
  return found;
}

function imageIn(root: string): Image {
  const head = readlinkSync(path.join(root, 'head'));
  const marks = readdirSync(path.join(root, head)).filter((name) => /^m\d+$/.test(name));
  return { generation: Number(head), marks: marks.toSorted() };
}

function left(root: string, locked: boolean, lines: readonly string[]): string[] {
  const expected = locked ? /^\d+$|^head$|^lock$/ : /^\d+$|^head$/;
  const scratch = lines.filter((line) => line.startsWith('ok /tmp/')).map((line) => line.slice(3));
  const names = [
    ...readdirSync(root).filter((name) => !expected.test(name)),
    ...scratch.filter((one) => existsSync(one)),
  ];
  const copies = readdirSync(at('up')).filter((name) => name.startsWith('.goldbed-copy'));
  return [...names, ...copies].map((name) => `left: ${name}`);
}
