/** Going back, or forward again: moving a pointer. Running sessions keep their generation; a write under way is refused. */
import { withImageLock } from './claim.ts';
import { pointDurably } from './durable.ts';
import type { ImageStore } from './layout.ts';
import type { GenerationRecord } from './record.ts';
import { readGeneration, readHead } from './store.ts';

/** Makes a generation of the image current. @throws {UsageError} when there is no such image or generation */
export async function rollBack(
  store: ImageStore,
  image: string,
  generation: number,
  signal?: AbortSignal,
): Promise<GenerationRecord> {
  await readHead(store, image);
  return withImageLock(
    store,
    image,
    async ({ layout, lost }) => {
      const record = await readGeneration(layout, generation);
      lost.throwIfAborted();
      await pointDurably(layout.head, `generations/${generation}`);
      return record;
    },
    signal,
  );
}
