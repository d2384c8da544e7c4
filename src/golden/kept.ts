/** Generations that people keep: no collection removes them, however many newer ones there are. */
import { withImageLock } from './store/image-lock.ts';
import type { ImageStore } from './layout.ts';
import { readRemarks, writeRemarks, type Remark } from './remarks.ts';
import { readGeneration, readHead } from './store.ts';

/** Again with another reason: the later one counts. @throws {UsageError} when there is no such image or generation */
export async function keepGeneration(store: ImageStore, image: string, kept: Omit<Remark, 'since'>): Promise<void> {
  await change(store, image, kept.generation, { ...kept, since: new Date().toISOString() });
}

/** @throws {UsageError} when there is no such image or generation */
export async function letGo(store: ImageStore, image: string, generation: number): Promise<void> {
  await change(store, image, generation);
}

async function change(store: ImageStore, image: string, generation: number, kept?: Remark): Promise<void> {
  await readHead(store, image);
  await withImageLock(store, image, async (layout) => {
    await readGeneration(layout, generation);
    const others = (await readRemarks(layout.kept)).filter((one) => one.generation !== generation);
    await writeRemarks(layout.kept, [...others, ...(kept === undefined ? [] : [kept])]);
  });
}
