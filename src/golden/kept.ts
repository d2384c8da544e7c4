/** Generations that people keep: no collection removes them, however many newer ones there are. */
import * as z from 'zod';
import { withImageLock } from './claim.ts';
import { readJson, writeDurably } from './durable.ts';
import type { ImageLayout, ImageStore } from './layout.ts';
import { readGeneration, readHead } from './store.ts';

const keptSchema = z.object({
  v: z.literal(1),
  generations: z.array(
    z.object({
      generation: z.number().int().positive(),
      by: z.string(),
      /** ISO 8601, UTC. */
      since: z.string(),
      /** For people. */
      reason: z.string(),
    }),
  ),
});
export type Kept = z.infer<typeof keptSchema>['generations'][number];

export async function readKept(layout: ImageLayout): Promise<readonly Kept[]> {
  return (await readJson(layout.kept, keptSchema))?.generations ?? [];
}

/** Again with another reason: the later one counts. @throws {UsageError} when there is no such image or generation */
export async function keepGeneration(store: ImageStore, image: string, kept: Omit<Kept, 'since'>): Promise<void> {
  await change(store, image, kept.generation, { ...kept, since: new Date().toISOString() });
}

/** @throws {UsageError} when there is no such image or generation */
export async function letGo(store: ImageStore, image: string, generation: number): Promise<void> {
  await change(store, image, generation);
}

async function change(store: ImageStore, image: string, generation: number, kept?: Kept): Promise<void> {
  await readHead(store, image);
  await withImageLock(store, image, async ({ layout }) => {
    await readGeneration(layout, generation);
    const others = (await readKept(layout)).filter((one) => one.generation !== generation);
    const generations = [...others, ...(kept === undefined ? [] : [kept])];
    await writeDurably(layout.kept, `${JSON.stringify(keptSchema.parse({ v: 1, generations }))}\n`);
  });
}
