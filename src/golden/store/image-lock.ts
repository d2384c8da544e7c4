/** The lock of an image: who holds it is alone in changing claim and head, and finds nothing half done. */
import { mkdir, rm } from 'node:fs/promises';
import { isMissing, syncFolder } from '../../exec/durable.ts';
import { flock } from '../../exec/flock.ts';
import { discard } from '../../exec/trash.ts';
import { generationFolder, layoutOf, type ImageLayout, type ImageStore } from '../layout.ts';
import { headGeneration } from '../store.ts';
import { requireWritable } from '../writable.ts';
import { readClaim, writeClaim } from './claim.ts';

/** Runs `action` while nobody else changes claim or head; first puts right what a killed process left half done. */
export async function withImageLock<T>(
  store: ImageStore,
  image: string,
  action: (layout: ImageLayout) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  const layout = layoutOf(store, image);
  await requireWritable(layout.root);
  await using _ = await inFolder(layout, () => flock(layout.lock, signal));
  await settle(store, layout);
  return await action(layout);
}

/** Makes the image's folder for a lock in it; again, when `image rm` has taken the folder away while one waited. */
export async function inFolder<T>(layout: ImageLayout, lock: () => Promise<T>): Promise<T> {
  for (;;) {
    await mkdir(layout.root, { recursive: true, mode: 0o755 });
    try {
      return await lock();
    } catch (error) {
      if (!(error instanceof Error && error.cause !== undefined && isMissing(error.cause))) throw error;
    }
  }
}

/** A generation moved in whose head never followed was not published: it goes. So do a dead collection's marks. */
async function settle(store: ImageStore, layout: ImageLayout): Promise<void> {
  await rm(layout.collecting, { force: true });
  const claim = await readClaim(layout);
  if (claim?.publishing === undefined) return;
  const { publishing, ...settled } = claim;
  if ((await headGeneration(layout)) !== publishing) {
    await discard(generationFolder(layout, publishing), store.trash);
    await mkdir(layout.generations, { recursive: true });
    await syncFolder(layout.generations);
  }
  await writeClaim(layout, settled);
}
