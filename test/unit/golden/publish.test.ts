import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { beginWrite } from '../../../src/golden/candidate.ts';
import { flatten, maxLayers } from '../../../src/golden/flatten.ts';
import { layoutOf } from '../../../src/golden/layout.ts';
import { digestOfLayers } from '../../../src/golden/record.ts';
import { quarantine } from '../../../src/golden/quarantine.ts';
import { previousGeneration } from '../../../src/golden/remove.ts';
import { rollBack } from '../../../src/golden/roll-back.ts';
import { contentOf } from '../../../src/golden/stack.ts';
import { imageNames, readHead, readManifest } from '../../../src/golden/store.ts';
import { verifyGeneration } from '../../../src/golden/verify-generation.ts';
import { isRoot } from '../../../src/exec/as-root.ts';
import { emptyTrash } from '../../../src/exec/trash.ts';
import { details, fill, never, publishFiles, temporaryState } from './fixtures/images.ts';

test('generations are a stack of layers, each with its digest, and the head is the last one', async () => {
  await using state = await temporaryState();
  const first = await publishFiles(state, 'sid-amd64', { one: '1' }, { details: { strategy: 'create' } });
  const second = await publishFiles(state, 'sid-amd64', { two: '2' }, { details: { job: 'b7f3' } });

  expect(first).toMatchObject({ generation: 1, parent: null, by: 'writer 1', strategy: 'create', packages: 2 });
  expect(second).toMatchObject({ generation: 2, parent: 1, job: 'b7f3' });
  expect(second.layers.map((layer) => layer.generation)).toEqual([1, 2]);
  expect(second.layers[0]).toEqual(first.layers[0]);
  expect(second.digest).toBe(digestOfLayers(second.layers));
  expect(second.bytes).toBeGreaterThan(first.bytes);

  const layout = layoutOf(state, 'sid-amd64');
  expect(await readHead(state, 'sid-amd64')).toEqual(second);
  expect(readlinkSync(layout.head)).toBe('generations/2');
  expect(await readManifest(layout, 2)).toBe(details.manifest);
  expect(contentOf(layout, second).layers.map((layer) => readdirSync(layer))).toEqual([['one'], ['two']]);
  expect(readdirSync(layout.work)).toEqual([]);
  expect(await verifyGeneration(state, 'sid-amd64', undefined, never)).toMatchObject({ generation: 2, damaged: [] });
});

test('a changed layer is found by its digest', async () => {
  await using state = await temporaryState();
  await publishFiles(state, 'sid', { one: '1' });
  await publishFiles(state, 'sid', { two: '2' });
  await writeFile(path.join(layoutOf(state, 'sid').generations, '1/layer/one'), 'changed');
  expect((await verifyGeneration(state, 'sid', 2, never)).damaged).toEqual([1]);
});

test('a candidate that is not published leaves no trace', async () => {
  await using state = await temporaryState();
  await publishFiles(state, 'sid', { one: '1' });
  const layout = layoutOf(state, 'sid');
  {
    await using candidate = await beginWrite(state, 'sid', { fence: 2, by: 'somebody' });
    await fill(candidate, { two: '2' });
    expect(readdirSync(layout.pins)).toHaveLength(1);
  }
  await emptyTrash(state.trash, { wait: true });
  expect(readdirSync(layout.generations)).toEqual(['1']);
  expect([readdirSync(layout.work), readdirSync(layout.pins), readdirSync(state.trash)]).toEqual([[], [], []]);
});

test('a fence counts once, and only if it is greater than all before', async () => {
  await using state = await temporaryState();
  await publishFiles(state, 'sid', {}, { fence: 5 });
  for (const fence of [5, 4]) {
    await expect(beginWrite(state, 'sid', { fence, by: 'late' })).rejects.toMatchObject({
      word: 'golden-locked',
      message: `fence ${fence} came too late: writer 5 writes sid with 5`,
    });
  }
});

test.for([
  ['does not notice', true],
  ['fails for want of its folder', false],
] as const)('of two writers the one with the older fence cannot publish: it %s', async ([, folder]) => {
  await using state = await temporaryState();
  await publishFiles(state, 'sid', { one: '1' });
  await using paused = await beginWrite(state, 'sid', { fence: 2, by: 'paused' });
  await using newer = await beginWrite(state, 'sid', { fence: 3, by: 'newer' });
  expect(existsSync(paused.directory)).toBe(true); // it lives: what it has is its own to remove
  if (!folder) await rm(paused.directory, { recursive: true });
  await expect(paused.publish(details, never)).rejects.toMatchObject({
    name: 'GoldenRefusal',
    word: 'golden-changed',
    message: 'sid was not written: newer has taken over writing it (fence 3)',
  });
  expect((await newer.publish(details, never)).generation).toBe(2);
});

test('rolling back moves the pointer, keeps the newer generation, and refuses a write under way', async () => {
  await using state = await temporaryState();
  const first = await publishFiles(state, 'sid', { one: '1' });
  await publishFiles(state, 'sid', { two: '2' });
  await using candidate = await beginWrite(state, 'sid', { fence: 9, by: 'updater' });
  expect(await rollBack(state, 'sid', 1)).toEqual(first);
  expect((await readHead(state, 'sid')).generation).toBe(1);
  await expect(candidate.publish(details, never)).rejects.toMatchObject({
    word: 'golden-changed',
    message: 'sid was not written: its current generation became 1 meanwhile',
  });
  // the next one stands on what is current, and takes a number that nobody has had
  const next = await publishFiles(state, 'sid', { three: '3' });
  expect([next.generation, next.parent, next.layers.map((layer) => layer.generation)]).toEqual([3, 1, [1, 3]]);
  await expect(rollBack(state, 'sid', 7)).rejects.toThrow('sid has no generation 7 (it has 1, 2, 3)');
  await expect(rollBack(state, 'nosuch', 1)).rejects.toThrow('there is no image nosuch (there are: sid)');
  expect(readdirSync(state.images)).toEqual(['sid']);
});

test('a replacement stands alone', async () => {
  await using state = await temporaryState();
  await publishFiles(state, 'sid', { one: '1' });
  const second = await publishFiles(state, 'sid', { all: 'new' }, { details: { strategy: 'replace' } });
  expect([second.parent, second.layers.map((layer) => layer.generation)]).toEqual([1, [2]]);
});

test.runIf(isRoot())('a stack that would become too deep is published as one layer with the same content', async () => {
  await using state = await temporaryState();
  for (let n = 1; n <= maxLayers; n++) await publishFiles(state, 'sid', { [`file${n}`]: `${n}`, last: `${n}` });
  const deep = await readHead(state, 'sid');
  expect(deep.layers).toHaveLength(maxLayers);
  const flat = await publishFiles(state, 'sid', { last: 'flat' });
  expect(flat.layers.map((layer) => layer.generation)).toEqual([maxLayers + 1]);
  const root = path.join(layoutOf(state, 'sid').generations, String(maxLayers + 1), 'layer');
  expect(readdirSync(root)).toEqual([...Array.from({ length: maxLayers }, (_, n) => `file${n + 1}`), 'last']);
  expect(readFileSync(path.join(root, 'last'), 'utf8')).toBe('flat');
  expect(await publishFiles(state, 'sid', { more: '' })).toMatchObject({ parent: maxLayers + 1 });
});

test('an abort before the commit publishes nothing', async () => {
  await using state = await temporaryState();
  await publishFiles(state, 'sid', { one: '1' });
  const controller = new AbortController();
  await using candidate = await beginWrite(state, 'sid', {
    fence: 2,
    by: 'updater',
    reached: (step) => (step === 'digested' ? controller.abort(new Error('cancelled')) : undefined),
  });
  await expect(candidate.publish(details, controller.signal)).rejects.toThrow('cancelled');
  expect((await readHead(state, 'sid')).generation).toBe(1);
});

test('a quarantined generation is left for the newest good one, and is not rolled back to', async () => {
  await using state = await temporaryState();
  for (const name of ['1', '2', '3']) await publishFiles(state, 'sid', { [name]: name });
  const bad = { by: 'me', reason: 'libc6 breaks everything' };
  await quarantine(state, 'sid', { generation: 2, ...bad });
  expect((await readHead(state, 'sid')).generation).toBe(3); // it was not current
  expect((await quarantine(state, 'sid', { generation: 3, ...bad })).generation).toBe(1);
  await expect(rollBack(state, 'sid', 3)).rejects.toThrow('sid@3 is in quarantine: libc6 breaks everything');
  const next = await publishFiles(state, 'sid', { four: '4' });
  expect([next.generation, next.layers.map(({ generation }) => generation)]).toEqual([4, [1, 4]]);
  expect(await previousGeneration(state, 'sid')).toBe(1);
  await rollBack(state, 'sid', 1);
  await expect(quarantine(state, 'sid', { generation: 1, ...bad })).rejects.toThrow(/no good generation older than 1/);
  expect((await readHead(state, 'sid')).generation).toBe(1);
});

test('names are checked, and images without a generation are none', async () => {
  await using state = await temporaryState();
  await expect(readHead(state, '../etc')).rejects.toThrow(/'..\/etc' is not an image name/);
  await expect(readHead(state, 'sid')).rejects.toThrow(
    'there is no image sid (there are none yet: goldbed image create)',
  );
  await using _candidate = await beginWrite(state, 'sid', { fence: 1, by: 'maker' });
  expect(await imageNames(state)).toEqual([]);
});

test('a failing flatten says why', async () => {
  await using state = await temporaryState();
  await mkdir(state.root, { recursive: true });
  const at = (name: string): string => path.join(state.root, name);
  const layers = [at('missing'), at('also-missing')];
  await expect(flatten(layers, at('merged'), at('flat'), never)).rejects.toThrow(/unshare.*exit \d+/);
});
