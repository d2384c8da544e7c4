/**
 * How a generation lies on disk now. Its record names the layers that it was published with, and never changes; a flat
 * equivalent (flatten-current.ts) may have come since, in `generations/N/flat/`:
 *
 *     layer/        the same tree as layers 1 to N show together
 *     record.json   the digest of the generation that it stands for, and its own
 *
 * The generation's digest stays what it was: it names a content, and the flat equivalent is verified to be that. It
 * serves later generations, too: they stand on those layers first.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import * as z from 'zod';
import type { Change, Content } from '../backends/backend.ts';
import { isMissing } from '../exec/durable.ts';
import { flatFolder, generationFolder, type ImageLayout } from './layout.ts';
import { digestOfLayers, recordSchema, type GenerationRecord, type Layer } from './record.ts';

export const flatSchema = z.object({
  v: z.literal(1),
  /** Of the generation that it is equivalent to. */
  digest: z.string(),
  /** Of the flat layer's own tar stream (digest.ts), and its length. */
  layer: z.object({ digest: z.string(), bytes: z.number().int().nonnegative() }),
  /** ISO 8601, UTC. */
  created: z.string(),
});
export type Flat = z.infer<typeof flatSchema>;

/** The layers to open, lowest first: the record's own, as many of them as possible replaced by a flat equivalent. */
export function stackOf(layout: ImageLayout, { layers }: Pick<GenerationRecord, 'layers'>): readonly Layer[] {
  for (let last = layers.length - 1; last >= 0; last -= 1) {
    const { generation, flat } = layers[last] as Layer;
    if (flat === true) break; // nothing below it, and it was flattened from this already
    const found = readFlat(layout, generation);
    if (found?.digest !== digestOfLayers(layers.slice(0, last + 1))) continue;
    return [{ generation, flat: true, ...found.layer }, ...layers.slice(last + 1)];
  }
  return layers;
}

/** What a backend opens. */
export function contentOf(layout: ImageLayout, record: GenerationRecord): Content {
  const change = changeOf(layout, record);
  const whole = { layers: foldersOf(layout, stackOf(layout, record)), digest: record.digest };
  return change === undefined ? whole : { ...whole, change };
}

/** Its own layer stands on its parent, as long as that is there to say what it was. */
function changeOf(layout: ImageLayout, { generation, layers, parent }: GenerationRecord): Change | undefined {
  if (parent === null || layers.length === 1) return undefined; // whole by itself
  const base = readDigest(layout, parent);
  return base === undefined ? undefined : { base, layer: path.join(generationFolder(layout, generation), 'layer') };
}

export function foldersOf(layout: ImageLayout, layers: readonly Layer[]): string[] {
  return layers.map(({ generation, flat }) =>
    path.join(flat === true ? flatFolder(layout, generation) : generationFolder(layout, generation), 'layer'),
  );
}

/** Undefined where there is none. Synchronous, as every open asks. @throws when it makes no sense */
export function readFlat(layout: ImageLayout, generation: number): Flat | undefined {
  const file = path.join(flatFolder(layout, generation), 'record.json');
  try {
    return flatSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw new Error(`${file} is damaged, or was written by another version of goldbed`, { cause: error });
  }
}

/** Undefined where there is no such generation. Synchronous, as every open asks. */
function readDigest(layout: ImageLayout, generation: number): string | undefined {
  try {
    const text = readFileSync(path.join(generationFolder(layout, generation), 'record.json'), 'utf8');
    return recordSchema.parse(JSON.parse(text)).digest;
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}
