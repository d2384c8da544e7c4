/** Removing generations that nobody needs: not among the newest, not current, not kept, not pinned, and no layer of one of those. */
import { rm } from 'node:fs/promises';
import { discard } from '../exec/trash.ts';
import { withImageLock } from './store/image-lock.ts';
import { syncFolder, writeWhole } from '../exec/durable.ts';
import { messageOf } from '../protocol/errors.ts';
import { generationFolder, type ImageLayout, type ImageStore } from './layout.ts';
import { allLivePins } from './pins.ts';
import type { GenerationRecord, Layer } from './record.ts';
import { readRemarks } from './remarks.ts';
import { stackOf } from './stack.ts';
import { generationNumbers, headGeneration, readGeneration, readHead } from './store.ts';

/** Generations that stay for rolling back, the current one among them, unless somebody says otherwise. */
export const defaultKeep = 3;

/**
 * @returns the numbers of the removed generations
 * @throws {UsageError} when there is no such image
 * @throws {HostError} when a pin cannot be read; nothing is removed then
 */
export async function collect(
  store: ImageStore,
  image: string,
  { keep = defaultKeep, signal }: { keep?: number; signal?: AbortSignal } = {},
): Promise<readonly number[]> {
  await readHead(store, image);
  return withImageLock(store, image, (layout) => collectLocked(store, layout, keep), signal);
}

/** After a new generation, which stands all the same: what cannot be removed now is found by the next one. */
export async function collectOld(
  store: ImageStore,
  image: string,
  options: { readonly keep: number; readonly signal: AbortSignal },
  log: (line: string) => void,
): Promise<readonly number[]> {
  try {
    return await collect(store, image, options);
  } catch (error) {
    log(`cannot remove old generations: ${messageOf(error)}`);
    return [];
  }
}

/** Marks first, then a look at the pins, in this order: pins.ts tells the other half of it. */
async function collectLocked(store: ImageStore, layout: ImageLayout, keep: number): Promise<readonly number[]> {
  const marked = await unneeded(layout, keep);
  if (marked.length === 0) return [];
  writeWhole(layout.collecting, JSON.stringify({ generations: marked }));
  const pinned = await neededByPins(layout);
  // highest first: a generation goes before the layers it stands on, so that none is ever left without
  const removed = marked.filter((generation) => !pinned.has(generation)).toSorted((one, other) => other - one);
  for (const generation of removed) await discard(generationFolder(layout, generation), store.trash);
  await syncFolder(layout.generations);
  await rm(layout.collecting);
  return removed;
}

async function unneeded(layout: ImageLayout, keep: number): Promise<number[]> {
  const all = await generationNumbers(layout);
  const head = await headGeneration(layout);
  const pinned = (await readRemarks(layout.kept)).map(({ generation }) => generation);
  const kept = [...all.slice(-Math.max(1, keep)), ...all.filter((one) => one === head || pinned.includes(one))];
  const needed = await withLayers(layout, kept, (record) => stackOf(layout, record));
  return all.filter((generation) => !needed.has(generation));
}

/** A session may have opened the layers of the record before there was a flat one: those stay while it has its pin. */
async function neededByPins(layout: ImageLayout): Promise<Set<number>> {
  const existing = await generationNumbers(layout);
  const pinned = (await allLivePins(layout)).map((pin) => pin.generation);
  return withLayers(
    layout,
    pinned.filter((generation) => existing.includes(generation)),
    ({ layers }) => layers,
  );
}

async function withLayers(
  layout: ImageLayout,
  generations: readonly number[],
  layersOf: (record: GenerationRecord) => readonly Layer[],
): Promise<Set<number>> {
  const records = await Promise.all(generations.map((generation) => readGeneration(layout, generation)));
  return new Set(
    records.flatMap((record) => [record.generation, ...layersOf(record).map((layer) => layer.generation)]),
  );
}
