/**
 * Writing an image: register the fence at the store, work on a private candidate, publish it or throw it away. Nothing
 * that readers see changes before `head` moves, and whatever kills the writer leaves the image as it was.
 */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { discard } from '../exec/trash.ts';
import { GoldenRefusal } from '../protocol/testbed.ts';
import { layoutOf, type ImageStore } from './layout.ts';
import { pinGeneration, type Pinned } from './pins.ts';
import { publish, type PublishDetails } from './publish.ts';
import type { GenerationRecord, Layer } from './record.ts';
import { stackOf } from './stack.ts';
import { directoryStore } from './store/directory-store.ts';
import type { Writer } from './store/generation-store.ts';
import { makeWorkFolder, removeDeadWork } from './work-folder.ts';

/** Dispose without publish discards it; after it, removes what is left of the work. */
export interface Candidate extends AsyncDisposable {
  readonly fence: number;
  /** What was current when the write began; undefined while the image has no generation. */
  readonly base: GenerationRecord | undefined;
  /** The layers of `base`, as they lay when the write began: what it stands on. */
  readonly below: readonly Layer[];
  /** The number that it will have. */
  readonly generation: number;
  /** Private to the writer. */
  readonly directory: string;
  /** Empty. Takes the changes to `base`, or a whole root file system. */
  readonly layerDirectory: string;
  /** @throws {GoldenRefusal} `golden-changed` when somebody else took over or published; else the old image is intact */
  publish(details: PublishDetails, signal: AbortSignal): Promise<GenerationRecord>;
  /**
   * The error to tell instead of one that the work met: when somebody else took over, that is what happened, whatever it
   * made fail. The error itself when nobody did.
   */
  explain(error: unknown): Promise<unknown>;
}

/** @throws {GoldenRefusal} `golden-locked` when a writer with this or a later fence has registered */
export async function beginWrite(
  store: ImageStore,
  image: string,
  writer: Writer,
  signal?: AbortSignal,
): Promise<Candidate> {
  const started = Date.now();
  const layout = layoutOf(store, image);
  const generations = directoryStore(store, image);
  const registered = await generations.register(writer, signal);
  await removeDeadWork(store, layout);
  const work = await makeWorkFolder(layout, writer.fence);
  const layerDirectory = path.join(work.path, 'layer');
  const dispose = async (): Promise<void> => {
    await pinned?.[Symbol.asyncDispose]();
    await discard(work.path, store.trash, { wait: true }); // on a full disk the next one needs the room
  };
  let pinned: Pinned | undefined;
  try {
    await mkdir(layerDirectory, { mode: 0o755 });
    const pin = { sessionId: `write-${work.name}`, what: `${writer.by} writes the next generation` };
    if (registered.base !== undefined)
      pinned = await pinGeneration(store, image, { ...pin, generation: registered.base });
    await writer.reached?.('candidate-made');
  } catch (error) {
    await dispose();
    throw error;
  }
  const base = pinned?.record;
  const below = base === undefined ? [] : stackOf(layout, base);
  const { path: directory } = work;
  const write = { store, layout, generations, writer, registered, base, below, directory, layerDirectory, started };
  const explain = async (error: unknown): Promise<unknown> =>
    error instanceof GoldenRefusal ? error : ((await generations.takenOver(writer)) ?? error);
  return {
    fence: writer.fence,
    base,
    below,
    generation: registered.next,
    directory,
    layerDirectory,
    explain,
    async publish(details, stop) {
      try {
        return await publish(write, details, stop);
      } catch (error) {
        throw await explain(error);
      }
    },
    [Symbol.asyncDispose]: dispose,
  };
}
