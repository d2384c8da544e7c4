/** Going back, or forward again: moving a pointer. Running sessions keep their generation; a write under way is refused. */
import { withImageLock } from './claim.ts';
import { pointDurably } from '../exec/durable.ts';
import type { ImageStore } from './layout.ts';
import type { GenerationRecord } from './record.ts';
import { readRemarks } from './remarks.ts';
import { readGeneration, readHead } from './store.ts';
import { UsageError } from '../protocol/errors.ts';

/** Makes a generation of the image current. @throws {UsageError} no such image or generation, or it is in quarantine */
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
    async ({ layout }) => {
      const record = await readGeneration(layout, generation);
      const bad = (await readRemarks(layout.quarantined)).find((one) => one.generation === generation);
      if (bad !== undefined) throw new UsageError(image, `${image}@${generation} is in quarantine: ${bad.reason}`);
      await pointDurably(layout.head, `generations/${generation}`);
      return record;
    },
    signal,
  );
}
