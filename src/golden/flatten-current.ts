/**
 * Flattening aside, when a write has been published and nobody waits: the current generation's stack as one layer, which
 * from then on is opened in its place (stack.ts). Nothing that is there is touched: sessions keep the layers that they
 * opened, a write under way keeps those that it began on, and the digest of the generation stays.
 *
 * The copy is compared with what the layers show, brought to disk, and moved in by one rename. Killed before it, a folder
 * is left, which the next one removes; each update and each start of a worker asks again, and publish.ts does it itself
 * when nobody did. Needs no lease: it publishes nothing.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { syncFolder } from '../exec/durable.ts';
import { flock } from '../exec/flock.ts';
import { check } from '../exec/run.ts';
import { discard } from '../exec/trash.ts';
import { withImageLock } from './store/image-lock.ts';
import { digestLayer, digestMerged } from './digest.ts';
import { flatten } from './flatten.ts';
import { flatFolder, layoutOf, type ImageLayout, type ImageStore } from './layout.ts';
import { pinGeneration, type Pin } from './pins.ts';
import type { GenerationRecord, Layer } from './record.ts';
import { flatSchema, foldersOf, stackOf, type Flat } from './stack.ts';
import { entries, headGeneration, readHead } from './store.ts';

/** Layers from which it is worth a copy of the whole tree; well before `maxLayers`, so that publishing never waits for it. */
export const flattenFrom = 5;

const sessionPrefix = 'flatten-';

export interface Flattened {
  readonly generation: number;
  /** Layers that it had. */
  readonly layers: number;
}

/** For tests: called between any two steps that reach the disk. */
export type FlattenStep = 'begun' | 'copied' | 'verified' | 'moved';
type Reached = (step: FlattenStep) => Promise<void> | void;

/**
 * Undefined when there is nothing to do, or somebody else is at it.
 * @throws {UsageError} when there is no such image; an error when the copy is not what the layers show
 */
export async function flattenCurrent(
  store: ImageStore,
  image: string,
  { reached, from = flattenFrom }: { readonly reached?: Reached; readonly from?: number },
  signal: AbortSignal,
): Promise<Flattened | undefined> {
  await readHead(store, image);
  const layout = layoutOf(store, image);
  await using lock = await flock(layout.flattenLock, signal, false);
  if (lock === undefined) return undefined;
  for (const name of await entries(layout.flattening)) await discard(path.join(layout.flattening, name), store.trash);

  const id = randomUUID();
  await using pin = await pinGeneration(store, image, { sessionId: `${sessionPrefix}${id}`, what: 'flattening' });
  const { record } = pin;
  const layers = stackOf(layout, record);
  if (layers.length < from) return undefined;
  const directory = path.join(layout.flattening, id);
  try {
    await reached?.('begun');
    const flat = await makeFlat(layout, record, layers, directory, { reached, signal });
    const published = await withImageLock(store, image, () => moveIn(layout, record, flat), signal);
    await reached?.('moved');
    return published ? { generation: record.generation, layers: layers.length } : undefined;
  } catch (error) {
    if ((await headGeneration(layout)) === undefined) return undefined; // the image was removed meanwhile
    throw error;
  } finally {
    await discard(directory, store.trash, { wait: true });
  }
}

/** Whether the current generation is worth it. */
export async function isDeep(store: ImageStore, image: string): Promise<boolean> {
  return stackOf(layoutOf(store, image), await readHead(store, image)).length >= flattenFrom;
}

/** A pin that holds up nobody: whoever removes the image may do so. */
export function isFlattening({ session }: Pin): boolean {
  return session.startsWith(sessionPrefix);
}

/** @returns a folder as it is to be moved in, on disk */
async function makeFlat(
  layout: ImageLayout,
  record: GenerationRecord,
  layers: readonly Layer[],
  directory: string,
  { reached, signal }: { readonly reached: Reached | undefined; readonly signal: AbortSignal },
): Promise<string> {
  const [flat, merged] = [path.join(directory, 'flat'), path.join(directory, 'merged')];
  const layer = path.join(flat, 'layer');
  await mkdir(flat, { recursive: true, mode: 0o755 });
  const folders = foldersOf(layout, layers);
  await flatten(folders, merged, layer, signal);
  await reached?.('copied');
  const wanted = await digestMerged(folders, merged, signal);
  const digested = await digestLayer(layer, signal);
  if (digested.digest !== wanted.digest)
    throw new Error(`${layout.image}@${record.generation}: the flat copy of its layers differs from them`);
  const about: Flat = { v: 1, digest: record.digest, layer: digested, created: new Date().toISOString() };
  await writeFile(path.join(flat, 'record.json'), `${JSON.stringify(flatSchema.parse(about), undefined, 2)}\n`);
  await check(['/bin/sync', '--file-system', flat], { signal });
  await reached?.('verified');
  return flat;
}

/** Under the image's lock: no collection is at it. @returns false when the generation is not there any more */
async function moveIn(layout: ImageLayout, { generation }: GenerationRecord, flat: string): Promise<boolean> {
  const target = flatFolder(layout, generation);
  try {
    await rename(flat, target);
  } catch (error) {
    if (['ENOENT', 'ENOTEMPTY'].includes((error as NodeJS.ErrnoException).code ?? '')) return false;
    throw error;
  }
  await syncFolder(path.dirname(target));
  return true;
}
