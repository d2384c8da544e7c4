/** A stack is flattened aside: the same content, the same digest, and nobody who uses the old layers notices. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { isRoot } from '../../../src/exec/as-root.ts';
import { run } from '../../../src/exec/run.ts';
import { emptyTrash } from '../../../src/exec/trash.ts';
import { beginWrite } from '../../../src/golden/candidate.ts';
import { collect } from '../../../src/golden/collect.ts';
import { flattenCurrent, flattenFrom, isDeep, type FlattenStep } from '../../../src/golden/flatten-current.ts';
import { maxLayers } from '../../../src/golden/flatten.ts';
import { layoutOf } from '../../../src/golden/layout.ts';
import { livePins, pinGeneration } from '../../../src/golden/pins.ts';
import { removeImage } from '../../../src/golden/remove.ts';
import { showImage } from '../../../src/golden/show.ts';
import { contentOf } from '../../../src/golden/stack.ts';
import { generationNumbers, readHead } from '../../../src/golden/store.ts';
import { verifyGeneration } from '../../../src/golden/verify-generation.ts';
import { details, fill, never, publishFiles, temporaryState, type TemporaryState } from './fixtures/images.ts';

const two = { from: 2 };

async function stackOfLayers(state: TemporaryState, count: number): Promise<void> {
  for (let n = 1; n <= count; n += 1) await publishFiles(state, 'sid', { [`file${n}`]: `${n}`, last: `${n}` });
}

/** What sessions open now, as names of generations and their folders. */
async function opened(state: TemporaryState): Promise<string[]> {
  const layout = layoutOf(state, 'sid');
  return contentOf(layout, await readHead(state, 'sid')).layers.map((layer) =>
    path.relative(layout.generations, layer),
  );
}

describe.runIf(isRoot())('flattening aside', () => {
  test('has the same content under the same digest; what is published next stands on it', async () => {
    await using state = await temporaryState();
    await stackOfLayers(state, flattenFrom);
    const layout = layoutOf(state, 'sid');
    const before = await readHead(state, 'sid');
    expect(await isDeep(state, 'sid')).toBe(true);
    expect(await flattenCurrent(state, 'sid', {}, never)).toEqual({ generation: 5, layers: 5 });
    expect(await isDeep(state, 'sid')).toBe(false);
    expect(await flattenCurrent(state, 'sid', {}, never)).toBeUndefined();

    expect(await readHead(state, 'sid')).toEqual(before);
    expect(await opened(state)).toEqual(['5/flat/layer']);
    expect(readdirSync(path.join(layout.generations, '5/flat/layer'))).toEqual([
      ...[1, 2, 3, 4, 5].map((n) => `file${n}`),
      'last',
    ]);
    expect(await verifyGeneration(state, 'sid', undefined, never)).toMatchObject({
      digest: before.digest,
      damaged: [],
    });

    const next = await publishFiles(state, 'sid', { next: '' });
    expect(next.layers.map(({ generation, flat }) => [generation, flat === true])).toEqual([
      [5, true],
      [6, false],
    ]);
    expect(await verifyGeneration(state, 'sid', undefined, never)).toMatchObject({ generation: 6, damaged: [] });
    await writeFile(path.join(layout.generations, '5/flat/layer/last'), 'changed');
    expect((await verifyGeneration(state, 'sid', undefined, never)).damaged).toEqual([5]);
  });

  test('deletions, opaque folders, links, owners, capabilities and attributes come out as overlayfs shows them', async () => {
    await using state = await temporaryState();
    await publishFiles(state, 'sid', { gone: '', 'folder/old': '', 'folder/deep/old': '', kept: 'x' });
    const { generations } = layoutOf(state, 'sid');
    await using candidate = await beginWrite(state, 'sid', { fence: 2, by: 'updater' });
    const mount = 'mount -t overlay -o "lowerdir=$1,upperdir=$2,workdir=overlay-work" overlay merged && cd merged';
    const change = `rm -r gone folder; mkdir folder; touch folder/new ping; echo 1 >one-name; ln one-name other-name
      chown 1000:33 one-name; chmod 4755 one-name; setcap cap_net_raw+ep ping`;
    const script = `mkdir overlay-work merged; ${mount}; ${change}`;
    const argv = ['--mount', 'sh', '-ec', script, 'sh', path.join(generations, '1/layer'), candidate.layerDirectory];
    execFileSync('unshare', argv, { cwd: candidate.directory });
    await candidate.publish(details, never);
    expect(await flattenCurrent(state, 'sid', two, never)).toEqual({ generation: 2, layers: 2 });
    const flat = path.join(generations, '2/flat/layer');
    expect(readdirSync(flat)).toEqual(['folder', 'kept', 'one-name', 'other-name', 'ping']);
    expect(readdirSync(path.join(flat, 'folder'))).toEqual(['new']);
    const look = 'stat -c "%h %u:%g %a" other-name; getcap ping';
    const seen = execFileSync('/bin/sh', ['-c', look], { cwd: flat, encoding: 'utf8' });
    expect(seen.trim().split('\n')).toEqual(['2 1000:33 4755', 'ping cap_net_raw=ep']);
  });

  test('a session keeps the layers that it opened, until it ends; those that nobody needs go', async () => {
    await using state = await temporaryState();
    await stackOfLayers(state, 3);
    const layout = layoutOf(state, 'sid');
    {
      await using pin = await pinGeneration(state, 'sid', { sessionId: 'reader', what: 'build hello' });
      await flattenCurrent(state, 'sid', two, never);
      expect(await collect(state, 'sid', { keep: 1 })).toEqual([]);
      expect(pin.content.layers.map((layer) => readFileSync(path.join(layer, 'last'), 'utf8'))).toEqual([
        '1',
        '2',
        '3',
      ]);
    }
    await using late = await pinGeneration(state, 'sid', { sessionId: 'late', what: 'build hello' });
    expect(late.content.layers).toEqual([path.join(layout.generations, '3/flat/layer')]);
    await late[Symbol.asyncDispose]();
    expect(await collect(state, 'sid', { keep: 1 })).toEqual([2, 1]);
    expect(await generationNumbers(layout)).toEqual([3]);
    expect(await verifyGeneration(state, 'sid', undefined, never)).toMatchObject({ generation: 3, damaged: [] });
    expect((await publishFiles(state, 'sid', { more: '' })).layers.map(({ generation }) => generation)).toEqual([3, 4]);
  });

  test('a write that began before stands on the old layers; it, too, is opened on the flat one', async () => {
    await using state = await temporaryState();
    await stackOfLayers(state, 2);
    await using candidate = await beginWrite(state, 'sid', { fence: 9, by: 'updater' });
    await fill(candidate, { last: '3' });
    await flattenCurrent(state, 'sid', two, never);
    const record = await candidate.publish(details, never);
    expect(record.layers.map(({ generation, flat }) => [generation, flat])).toEqual([
      [1, undefined],
      [2, undefined],
      [3, undefined],
    ]);
    expect(await opened(state)).toEqual(['2/flat/layer', '3/layer']);
    expect(await verifyGeneration(state, 'sid', undefined, never)).toMatchObject({ generation: 3, damaged: [] });
  });

  test.for<FlattenStep>(['begun', 'copied', 'verified', 'moved'])(
    'killed when %s: the image is whole, nothing is lost, and the next one leaves nothing behind',
    async (step) => {
      await using state = await temporaryState();
      await stackOfLayers(state, 3);
      const layout = layoutOf(state, 'sid');
      const program = path.join(import.meta.dirname, 'fixtures/flattener.ts');
      const cwd = path.resolve(import.meta.dirname, '../../..');
      const argv = [process.execPath, '--import', 'tsx', program, state.root, 'sid', step];
      expect(await run(argv, { cwd })).toMatchObject({ code: 137, stderr: '' });

      const isFlat = step === 'moved';
      expect((await opened(state)).length).toBe(isFlat ? 1 : 3);
      expect((await verifyGeneration(state, 'sid', undefined, never)).damaged).toEqual([]);
      expect(await livePins(layout)).toEqual([]);
      expect((await flattenCurrent(state, 'sid', two, never))?.generation).toBe(isFlat ? undefined : 3);
      expect(await opened(state)).toEqual(['3/flat/layer']);
      await emptyTrash(state.trash, { wait: true });
      expect([readdirSync(layout.flattening), readdirSync(state.trash)]).toEqual([[], []]);
    },
  );

  test('a copy that is not what the layers show is thrown away', async () => {
    await using state = await temporaryState();
    await stackOfLayers(state, 2);
    const { flattening } = layoutOf(state, 'sid');
    const reached = async (step: FlattenStep): Promise<void> => {
      const [id = ''] = step === 'copied' ? readdirSync(flattening) : [];
      if (id !== '') await rm(path.join(flattening, id, 'flat/layer/file1'));
    };
    await expect(flattenCurrent(state, 'sid', { ...two, reached }, never)).rejects.toThrow('sid@2: the flat copy');
    expect(await opened(state)).toEqual(['1/layer', '2/layer']);
    expect(readdirSync(flattening)).toEqual([]);
  });

  test('one at a time, seen by nobody; and an image may be removed meanwhile', async () => {
    await using state = await temporaryState();
    await stackOfLayers(state, 2);
    let meanwhile: unknown;
    const reached = async (step: FlattenStep): Promise<void> => {
      if (step !== 'copied') return;
      meanwhile = [await flattenCurrent(state, 'sid', two, never), (await showImage(state, 'sid')).sessions];
      await removeImage(state, 'sid', 'test');
    };
    expect(await flattenCurrent(state, 'sid', { ...two, reached }, never)).toBeUndefined();
    expect(meanwhile).toEqual([undefined, 0]);
    expect(existsSync(layoutOf(state, 'sid').root)).toBe(false);
    await emptyTrash(state.trash, { wait: true });
  });

  test('an abort leaves nothing', async () => {
    await using state = await temporaryState();
    await stackOfLayers(state, 2);
    const stop = new AbortController();
    const reached = (step: FlattenStep): void => (step === 'begun' ? stop.abort(new Error('enough')) : undefined);
    await expect(flattenCurrent(state, 'sid', { ...two, reached }, stop.signal)).rejects.toThrow('enough');
    expect(readdirSync(layoutOf(state, 'sid').flattening)).toEqual([]);
  });
});

test('there is room between the first flattening and the last layer that publishing allows', () => {
  expect(maxLayers - flattenFrom).toBeGreaterThanOrEqual(3);
});
