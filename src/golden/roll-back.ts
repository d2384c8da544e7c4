/** Going back, or forward again: moving a pointer. Running sessions keep their generation; a write under way is refused. */
import { UsageError } from '../protocol/errors.ts';
import { layoutOf, type ImageStore } from './layout.ts';
import { forgetFailure } from './looked.ts';
import type { GenerationRecord } from './record.ts';
import { readRemarks } from './remarks.ts';
import { readGeneration, readHead } from './store.ts';
import { directoryStore } from './store/directory-store.ts';

/** Makes a generation of the image current. @throws {UsageError} no such image or generation, or it is in quarantine */
export async function rollBack(
  store: ImageStore,
  image: string,
  generation: number,
  signal?: AbortSignal,
): Promise<GenerationRecord> {
  await readHead(store, image);
  const layout = layoutOf(store, image);
  const choose = async (): Promise<number> => {
    await readGeneration(layout, generation);
    const bad = (await readRemarks(layout.quarantined)).find((one) => one.generation === generation);
    if (bad !== undefined) throw new UsageError(image, `${image}@${generation} is in quarantine: ${bad.reason}`);
    return generation;
  };
  const current = await directoryStore(store, image).makeCurrent(choose, signal);
  await forgetFailure(layout);
  return readGeneration(layout, current);
}
