/** How fresh an image is: its generation, and when anybody last looked whether there is something newer. */
import { layoutOf, type ImageStore } from './layout.ts';
import { readLooked, type Looked } from './looked.ts';
import type { GenerationRecord } from './record.ts';
import { generationNumbers, readHead } from './store.ts';

export interface Freshness {
  /** The current one. */
  readonly generation: number;
  /** The number that the next one to be published will have. */
  readonly next: number;
  /** When the current one was made, or an update last found it up to date: whichever is later. Ms since the epoch. */
  readonly looked: number;
}

/** @throws {UsageError} when there is no such image */
export async function freshnessOf(store: ImageStore, image: string): Promise<Freshness> {
  const layout = layoutOf(store, image);
  const head = await readHead(store, image);
  const newest = (await generationNumbers(layout)).at(-1) ?? head.generation;
  return { generation: head.generation, next: newest + 1, looked: lastLook(head, await readLooked(layout)) };
}

export function lastLook(head: GenerationRecord, { unchanged }: Looked): number {
  const dates = [head.created, ...(unchanged?.generation === head.generation ? [unchanged.at] : [])];
  return Math.max(...dates.map((date) => Date.parse(date)));
}
