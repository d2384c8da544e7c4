/** The promise: whatever kills a writer, at whatever step, readers find the old or the new image, and the next writer can. */
import { readdirSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { draftIn } from '../../../src/exec/durable.ts';
import { run } from '../../../src/exec/run.ts';
import { emptyTrash } from '../../../src/exec/trash.ts';
import { layoutOf } from '../../../src/golden/layout.ts';
import { livePins } from '../../../src/golden/pins.ts';
import type { WriteStep } from '../../../src/golden/store/generation-store.ts';
import { showImage } from '../../../src/golden/show.ts';
import { contentOf } from '../../../src/golden/stack.ts';
import { readHead } from '../../../src/golden/store.ts';
import { verifyGeneration } from '../../../src/golden/verify-generation.ts';
import { never, publishFiles, temporaryState } from './fixtures/images.ts';

const published: Record<WriteStep, boolean> = {
  registered: false,
  'candidate-made': false,
  digested: false,
  assembled: false,
  locked: false,
  announced: false,
  moved: false,
  published: true,
  settled: true,
};

const program = path.join(import.meta.dirname, 'fixtures/writer.ts');
const writer = (...args: string[]): string[] => [process.execPath, '--import', 'tsx', program, ...args];
const cwd = path.resolve(import.meta.dirname, '../../..');

test.for(Object.entries(published))('killed when %s: published is %s', async ([step, isNew]) => {
  await using state = await temporaryState();
  const old = await publishFiles(state, 'sid', { marker: 'old' });
  const killed = await run(writer(state.root, 'sid', '2', step), { cwd });
  expect(killed).toMatchObject({ code: 137, stderr: '' });

  const layout = layoutOf(state, 'sid');
  const head = await readHead(state, 'sid');
  expect(head.generation).toBe(isNew ? 2 : 1);
  if (!isNew) expect(head).toEqual(old);
  expect((await verifyGeneration(state, 'sid', undefined, never)).damaged).toEqual([]);
  expect((await showImage(state, 'sid')).all.map(({ record }) => record.generation)).toEqual(isNew ? [2, 1] : [1]);

  const next = await publishFiles(state, 'sid', { marker: 'next' }, { fence: 3 });
  expect([next.generation, next.parent]).toEqual(isNew ? [3, 2] : [2, 1]);
  expect(contentOf(layout, next).layers.map((layer) => readdirSync(layer))).toEqual(next.layers.map(() => ['marker']));
  expect(readdirSync(layout.generations).map(Number)).toEqual(isNew ? [1, 2, 3] : [1, 2]);
  expect([readdirSync(layout.work), (await showImage(state, 'sid')).sessions]).toEqual([[], 0]);
  await emptyTrash(state.trash, { wait: true });
});

test('the first generation of an image, too, is there or not', async () => {
  await using state = await temporaryState();
  for (const [index, step] of ['assembled', 'announced', 'moved'].entries()) {
    expect((await run(writer(state.root, 'new', String(index + 1), step), { cwd })).code).toBe(137);
    await expect(readHead(state, 'new')).rejects.toThrow('there is no image new');
  }
  expect(await publishFiles(state, 'new', { marker: '' })).toMatchObject({ generation: 1, parent: null });
});

test('what killed writers had begun to write down goes with their work; what a living one writes stays', async () => {
  await using state = await temporaryState();
  const layout = layoutOf(state, 'sid');
  await publishFiles(state, 'sid', { marker: 'old' });
  const folders = [layout.root, layout.failed, layout.waiting, layout.pins];
  const dead = await run([process.execPath, '-e', 'console.log(process.pid)']);
  const number = dead.stdout.trim();
  for (const folder of folders) {
    await mkdir(folder, { recursive: true });
    await mkdir(path.join(folder, `.draft-${number}.1-of-a-candidate`));
    await writeFile(path.join(folder, `.draft-${number}.1-of-a-candidate/log`), 'half');
    // as earlier versions name them; and of a process that has the number of a dead one now
    for (const name of [`.draft-${number}-a`, `.draft-${process.pid}.1-b`])
      await writeFile(path.join(folder, name), 'half');
    await writeFile(path.join(folder, `.draft-${process.pid}-living`), 'half');
    await writeFile(draftIn(folder), 'half');
  }
  await publishFiles(state, 'sid', { marker: 'new' });
  await livePins(layout);
  for (const folder of folders) {
    const left = readdirSync(folder).filter((name) => name.startsWith('.draft-'));
    expect(left.toSorted()).toEqual([
      `.draft-${process.pid}-living`,
      expect.stringMatching(new RegExp(`^\\.draft-${process.pid}\\.\\d{3,}-`)),
    ]);
  }
});

test('two programs at once: the older fence is refused, the other publishes', async () => {
  await using state = await temporaryState();
  await publishFiles(state, 'sid', { marker: 'old' });
  const codes = await Promise.all(
    ['2', '3'].map(async (fence) => (await run(writer(state.root, 'sid', fence, 'nothing'), { cwd })).code),
  );
  // 2 may have published before 3 came; it never does after
  expect([
    [0, 0],
    [3, 0],
  ]).toContainEqual(codes);
  const head = await readHead(state, 'sid');
  expect([head.by, head.generation]).toEqual(['writer 3', codes[0] === 0 ? 3 : 2]);
});
