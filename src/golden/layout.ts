/**
 * Where an image keeps what, under `images/<name>/` of the state folder:
 *
 *     generations/3/{record.json, manifest.tsv, layer/}   immutable once published
 *     generations/3/flat/{record.json, layer/}            the whole of it in one layer, made later (stack.ts)
 *     generations/3/parent.tsv                            the manifest of its parent, which may be removed before it
 *     head -> generations/3                               what the next session opens
 *     claim.json                                          the highest fence that may publish
 *     pins/<session>.json                                 who uses which generation
 *     work/<fence>-<process>/                             a candidate, private to its writer
 *     flattening/<uuid>/                                  a flat layer in the making
 *     looked.json                                         what the last updates found
 *     kept.json                                           generations that people keep
 *     quarantined.json                                    generations that turned out bad
 *     failed/<number>/{record.json, log, manifest.tsv}  what is left of candidates that failed
 *     collecting.json                                     generations that a collection is about to remove
 *     lock                                                flock(2) file, held for milliseconds
 *     write.lock, writer.json, waiting/<id>.json          who writes, and who waits to (local-lease.ts)
 *     flatten.lock                                        who flattens
 *
 * The store belongs to one host: pins and claims name processes of it. What publishes is in store/.
 */
import path from 'node:path';
import type { State } from '../config/state.ts';
import { UsageError } from '../protocol/errors.ts';
import { imageNameSchema, type ImageName } from '../protocol/image.ts';

/** The part of the state folder that images need. */
export type ImageStore = Pick<State, 'images' | 'trash'>;

export interface ImageLayout {
  readonly image: ImageName;
  readonly root: string;
  readonly generations: string;
  readonly head: string;
  readonly claim: string;
  readonly pins: string;
  readonly work: string;
  readonly flattening: string;
  readonly looked: string;
  readonly kept: string;
  readonly quarantined: string;
  readonly failed: string;
  readonly collecting: string;
  /** Held for milliseconds around each change of claim and head. */
  readonly lock: string;
  /** Held by a writer for its whole session. */
  readonly writeLock: string;
  /** Who holds that. */
  readonly writer: string;
  /** Who waits for it. */
  readonly waiting: string;
  /** Held by whoever flattens (flatten-current.ts). */
  readonly flattenLock: string;
}

/** @throws {UsageError} when the name is not an image name: it becomes a path */
export function layoutOf(store: ImageStore, image: string): ImageLayout {
  const parsed = imageNameSchema.safeParse(image);
  if (!parsed.success)
    throw new UsageError(image, `'${image}' is not an image name: ${parsed.error.issues[0]?.message}`);
  const root = path.join(store.images, parsed.data);
  const at = (name: string): string => path.join(root, name);
  return {
    image: parsed.data,
    root,
    generations: at('generations'),
    head: at('head'),
    claim: at('claim.json'),
    pins: at('pins'),
    work: at('work'),
    flattening: at('flattening'),
    looked: at('looked.json'),
    kept: at('kept.json'),
    quarantined: at('quarantined.json'),
    failed: at('failed'),
    collecting: at('collecting.json'),
    lock: at('lock'),
    writeLock: at('write.lock'),
    writer: at('writer.json'),
    waiting: at('waiting'),
    flattenLock: at('flatten.lock'),
  };
}

export function generationFolder(layout: ImageLayout, generation: number): string {
  return path.join(layout.generations, String(generation));
}

/** Holds a flat equivalent of the generation, where there is one. */
export function flatFolder(layout: ImageLayout, generation: number): string {
  return path.join(generationFolder(layout, generation), 'flat');
}
