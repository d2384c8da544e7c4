/**
 * Publishing a candidate. First, at leisure: flatten if the stack is deep, digest, write the record, bring all of it to
 * disk. Then, under the image's lock: the claim must still be ours and the head still our base; announce the number in
 * the claim, move the candidate in, point `head` to it. That rename of the link is the moment of publication. Killed
 * before it, the next one to lock the image removes what was announced; killed after it, the new generation stands.
 */
import { mkdir, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { check } from '../exec/run.ts';
import { discard } from '../exec/trash.ts';
import { GoldenRefusal } from '../protocol/testbed.ts';
import { readClaim, withImageLock, writeClaim, type Claim, type LockedImage } from './claim.ts';
import { digestLayer, dropSockets } from './digest.ts';
import { pointDurably, syncFolder } from '../exec/durable.ts';
import { flatten, maxLayers } from './flatten.ts';
import { generationFolder, layerFolder, type ImageLayout, type ImageStore } from './layout.ts';
import { packageChanges, packageCount } from './manifest.ts';
import {
  digestOfLayers,
  recordSchema,
  type GenerationRecord,
  type Layer,
  type Recipe,
  type Strategy,
} from './record.ts';
import { headGeneration, readManifest } from './store.ts';

export interface Writer {
  /** From the lease. */
  readonly fence: number;
  /** For people: who writes. */
  readonly by: string;
  /** For tests: called between any two steps that reach the disk. */
  readonly reached?: (step: WriteStep) => Promise<void> | void;
}

/** Steps in their order, each named after what has just happened. */
export type WriteStep =
  | 'registered'
  | 'candidate-made'
  | 'digested'
  | 'assembled'
  | 'locked'
  | 'announced'
  | 'moved'
  | 'published'
  | 'settled';

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
  readonly base: GenerationRecord | undefined;
  readonly generation: number;
  readonly directory: string;
  readonly layerDirectory: string;
  /** Milliseconds since the epoch. */
  readonly started: number;
}

export async function publish(write: Write, details: PublishDetails, signal: AbortSignal): Promise<GenerationRecord> {
  const { store, layout, writer, directory } = write;
  await dropSockets(write.layerDirectory, signal);
  const { layer, below } = await finalLayer(write, details, signal);
  const digested = { generation: write.generation, ...(await digestLayer(layer, signal)) };
  await writer.reached?.('digested');
  const parent = write.base && (await readManifest(layout, write.base.generation)); // pinned: it is there
  const record = describe(write, details, parent, [...below, digested]);
  const assembled = path.join(directory, 'generation');
  await mkdir(assembled, { mode: 0o755 });
  await rename(layer, path.join(assembled, 'layer'));
  await writeFile(path.join(assembled, 'manifest.tsv'), details.manifest);
  if (parent !== undefined) await writeFile(path.join(assembled, 'parent.tsv'), parent);
  await writeFile(path.join(assembled, 'record.json'), `${JSON.stringify(record, undefined, 2)}\n`);
  await check(['/bin/sync', '--file-system', assembled], { signal });
  await writer.reached?.('assembled');
  await withImageLock(store, layout.image, (locked) => commit(locked, write, assembled), signal);
  return record;
}

/** Under the lock. From here on nothing listens to a signal: the caller wants a clear answer. */
async function commit({ layout, lost }: LockedImage, write: Write, assembled: string): Promise<void> {
  const { writer, generation } = write;
  await writer.reached?.('locked');
  const claim = await readClaim(layout);
  if (claim?.fence !== writer.fence) throw refusedTo(layout, claim);
  const head = await headGeneration(layout);
  if (head !== write.base?.generation)
    throw refused(layout, `its current generation became ${head ?? 'none'} meanwhile`);
  await writeClaim(layout, { ...claim, publishing: generation });
  await writer.reached?.('announced');
  await mkdir(layout.generations, { recursive: true, mode: 0o755 });
  await rename(assembled, generationFolder(layout, generation));
  await syncFolder(layout.generations);
  await writer.reached?.('moved');
  lost.throwIfAborted();
  await pointDurably(layout.head, `generations/${generation}`);
  await writer.reached?.('published');
  // published: a claim that stays announced is put right by whoever locks the image next
  await writeClaim(layout, claim).catch(() => {});
  await writer.reached?.('settled');
}

/** Undefined while the claim is the writer's; else the refusal that names who has it. */
export async function takenOver(layout: ImageLayout, writer: Writer): Promise<GoldenRefusal | undefined> {
  const claim = await readClaim(layout);
  return claim?.fence === writer.fence ? undefined : refusedTo(layout, claim);
}

/** The layer to publish and those below it: the whole stack in one, where it would become too deep. */
async function finalLayer(
  write: Write,
  details: PublishDetails,
  signal: AbortSignal,
): Promise<{ layer: string; below: readonly Layer[] }> {
  const { base, directory, layerDirectory, layout, store } = write;
  if (details.strategy !== 'upgrade' || base === undefined) return { layer: layerDirectory, below: [] };
  if (base.layers.length < maxLayers) return { layer: layerDirectory, below: base.layers };
  const into = path.join(directory, 'flat');
  const stack = [...base.layers.map(({ generation }) => layerFolder(layout, generation)), layerDirectory];
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
    generation: write.generation,
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

function refusedTo(layout: ImageLayout, claim: Claim | undefined): GoldenRefusal {
  const [by, fence] = [claim?.owner.by ?? 'somebody', claim?.fence ?? 'lost'];
  return refused(layout, `${by} has taken over writing it (fence ${fence})`);
}

function refused(layout: ImageLayout, why: string): GoldenRefusal {
  return new GoldenRefusal('golden-changed', `${layout.image} was not written: ${why}`);
}
