/** What a generation says about itself: where it came from, what it consists of, and how to verify it. */
import { createHash } from 'node:crypto';
import * as z from 'zod';
import { imageNameSchema, type GenerationRef } from '../protocol/image.ts';

const number = z.number().int().positive();
const count = z.number().int().nonnegative();

/** The variant of what was not made by goldbed: it cannot be made again without being told how. */
export const imported = 'imported';

/** What an image was made from: enough to make it again. */
export const recipeSchema = z.object({
  suite: z.string(),
  /** mmdebstrap's: `buildd`, `apt`, `minbase`, ...; or {@link imported}. */
  variant: z.string(),
  /** Packages on top of the variant. */
  include: z.array(z.string()),
  arch: z.string(),
  components: z.array(z.string()),
});
export type Recipe = z.infer<typeof recipeSchema>;

/** One layer: `generations/<generation>/layer`; a flat one is `generations/<generation>/flat/layer`. */
const layerSchema = z.object({
  generation: number,
  /** `sha256:` of the layer's tar stream (digest.ts). */
  digest: z.string(),
  /** Length of that stream. */
  bytes: z.number().int().nonnegative(),
  /** It is the whole of that generation, not only what it changed (stack.ts). */
  flat: z.literal(true).optional(),
});
export type Layer = z.infer<typeof layerSchema>;

/** `create`, `replace`: bootstrapped from nothing; `import`: what somebody else made; `upgrade`: changes on top of the parent. */
export const strategySchema = z.enum(['create', 'import', 'replace', 'upgrade']);
export type Strategy = z.infer<typeof strategySchema>;

export const recordSchema = z.object({
  v: z.literal(1),
  image: imageNameSchema,
  generation: number,
  /** The generation that was current when this one was begun; null for an image's first. */
  parent: number.nullable(),
  /** The root file system as it was published, lowest first; the first is whole, the others are overlayfs upper layers. */
  layers: z.array(layerSchema).min(1),
  /** {@link digestOfLayers}; it stays, however the layers are stacked later (stack.ts). */
  digest: z.string(),
  strategy: strategySchema,
  recipe: recipeSchema,
  /** Versions of the tools that made it, by name. */
  tools: z.record(z.string(), z.string()),
  /** Installed packages; manifest.tsv lists them. */
  packages: z.number().int().nonnegative(),
  /** Packages that differ from those of the parent. */
  changes: z.object({ added: count, removed: count, changed: count }).optional(),
  /** All layers together. */
  bytes: z.number().int().nonnegative(),
  /** ISO 8601, UTC. */
  created: z.string(),
  /** From the beginning of the write to its publication. */
  seconds: z.number().nonnegative(),
  /** Who asked: a user, a schedule. */
  by: z.string(),
  job: z.string().optional(),
  /** `URI RELEASE COMPONENT` of each package index in use. */
  sources: z.array(z.string()),
  /** Checks that it passed before it was published; and those that were not run, each with `: not run (why)`. */
  verified: z.array(z.string()),
});
export type GenerationRecord = z.infer<typeof recordSchema>;

/** By hand: `printf '%s\n' sha256:... sha256:... | sha256sum`, lowest layer first. */
export function digestOfLayers(layers: readonly Pick<Layer, 'digest'>[]): string {
  const list = layers.map((layer) => `${layer.digest}\n`).join('');
  return `sha256:${createHash('sha256').update(list).digest('hex')}`;
}

export function refOf(record: GenerationRecord): GenerationRef {
  return { image: record.image, generation: record.generation, digest: record.digest };
}
