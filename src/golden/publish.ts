/**
 * Publishing a candidate: at leisure, flatten if the stack is deep, digest, write the record, and bring all of it to disk;
 * then the store's one step, which makes it current or refuses (store/generation-store.ts).
 */
import { mkdir, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { check } from '../exec/run.ts';
import { discard } from '../exec/trash.ts';
import { digestLayer, dropSockets } from './digest.ts';
import { flatten, maxLayers } from './flatten.ts';
import type { ImageLayout, ImageStore } from './layout.ts';
import { forgetFailure } from './looked.ts';
import { packageChanges, packageCount } from './manifest.ts';
import {
  digestOfLayers,
  recordSchema,
  type GenerationRecord,
  type Layer,
  type Recipe,
  type Strategy,
} from './record.ts';
import { foldersOf } from './stack.ts';
import { readManifest } from './store.ts';
import type { GenerationStore, Registered, Writer } from './store/generation-store.ts';

/** What the writer knows about the new generation. */
export interface PublishDetails {
  /** `upgrade`: the layer holds changes to the base; otherwise a whole root. */
  readonly strategy: Strategy;
  readonly recipe: Recipe;
  /** As manifest.ts makes it. */
  readonly manifest: string;
  readonly tools: Readonly<Record<string, string>>;
  readonly sources: readonly string[];
  readonly verified: readonly string[];
  readonly job?: string;
}

/** A write under way (candidate.ts). */
export interface Write {
  readonly store: ImageStore;
  readonly layout: ImageLayout;
  readonly writer: Writer;
  readonly generations: GenerationStore;
  readonly registered: Registered;
  readonly base: GenerationRecord | undefined;
  readonly below: readonly Layer[];
  readonly directory: string;
  readonly layerDirectory: string;
  /** Milliseconds since the epoch. */
  readonly started: number;
}

export async function publish(write: Write, details: PublishDetails, signal: AbortSignal): Promise<GenerationRecord> {
  const { generations, registered, writer, directory } = write;
  await dropSockets(write.layerDirectory, signal);
  const { layer, below } = await finalLayer(write, details, signal);
  const digested = { generation: registered.next, ...(await digestLayer(layer, signal)) };
  await writer.reached?.('digested');
  const parent = write.base && (await readManifest(write.layout, write.base.generation)); // pinned: it is there
  const record = describe(write, details, parent, [...below, digested]);
  const assembled = path.join(directory, 'generation');
  await mkdir(assembled, { mode: 0o755 });
  await rename(layer, path.join(assembled, 'layer'));
  await writeFile(path.join(assembled, 'manifest.tsv'), details.manifest);
  if (parent !== undefined) await writeFile(path.join(assembled, 'parent.tsv'), parent);
  await writeFile(path.join(assembled, 'record.json'), `${JSON.stringify(record, undefined, 2)}\n`);
  await check(['/bin/sync', '--file-system', assembled], { signal });
  await writer.reached?.('assembled');
  await generations.commit({ ...registered, writer, folder: assembled }, signal);
  await forgetFailure(write.layout);
  return record;
}

/**
 * The layer to publish and those below it: the whole stack in one, where it would become too deep. It rarely does: it is
 * flattened aside before that (flatten-current.ts), if anybody is there to do it.
 */
async function finalLayer(
  write: Write,
  details: PublishDetails,
  signal: AbortSignal,
): Promise<{ layer: string; below: readonly Layer[] }> {
  const { below, directory, layerDirectory, layout, store } = write;
  if (details.strategy !== 'upgrade') return { layer: layerDirectory, below: [] };
  if (below.length < maxLayers) return { layer: layerDirectory, below };
  const into = path.join(directory, 'flat');
  const stack = [...foldersOf(layout, below), layerDirectory];
  await flatten(stack, path.join(directory, 'merged'), into, signal);
  await discard(layerDirectory, store.trash);
  return { layer: into, below: [] };
}

function describe(
  write: Write,
  details: PublishDetails,
  parent: string | undefined,
  layers: readonly Layer[],
): GenerationRecord {
  return recordSchema.parse({
    v: 1,
    image: write.layout.image,
    generation: write.registered.next,
    parent: write.base?.generation ?? null,
    layers,
    digest: digestOfLayers(layers),
    strategy: details.strategy,
    recipe: details.recipe,
    tools: details.tools,
    packages: packageCount(details.manifest),
    changes: parent === undefined ? undefined : packageChanges(parent, details.manifest),
    bytes: layers.reduce((sum, layer) => sum + layer.bytes, 0),
    created: new Date().toISOString(),
    seconds: (Date.now() - write.started) / 1000,
    by: write.writer.by,
    job: details.job,
    sources: details.sources,
    verified: details.verified,
  });
}
