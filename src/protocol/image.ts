/** Names of images and generations, as every party writes them. */
import * as z from 'zod';

/** A golden image's name: also a directory name and part of a queue's name, hence the narrow alphabet. */
export const imageNameSchema = z
  .string()
  .regex(/^[a-z0-9][a-z0-9+_-]*(\.[a-z0-9+_-]+)*$/, 'expected a name like bookworm-amd64 (a-z 0-9 + _ . -)')
  .max(64);
export type ImageName = z.infer<typeof imageNameSchema>;

/** One immutable committed state of an image, as far as a job's result needs it. */
export interface GenerationRef {
  readonly image: ImageName;
  /** Counts from 1. */
  readonly generation: number;
  /** `sha256:` and 64 hex digits over the content of the whole layer stack. */
  readonly digest: string;
}

/** `bookworm-amd64@3` */
export function generationId(ref: Pick<GenerationRef, 'image' | 'generation'>): string {
  return `${ref.image}@${ref.generation}`;
}
