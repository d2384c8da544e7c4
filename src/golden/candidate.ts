/**
 * Writing an image: register the fence at the store, work on a private candidate, publish it or throw it away. Nothing
 * that readers see changes before publish.ts moves `head`, and whatever kills the writer leaves the image as it was.
 */
import { randomUUID } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { identityOf } from '../exec/process-identity.ts';
import { discard } from '../exec/trash.ts';
import { GoldenRefusal } from '../protocol/testbed.ts';
import { readClaim, withImageLock, writeClaim } from './claim.ts';
import type { ImageLayout, ImageStore } from './layout.ts';
import { writePin } from './pins.ts';
import { publish, takenOver, type PublishDetails, type Writer } from './publish.ts';
import type { GenerationRecord, Layer } from './record.ts';
import { stackOf } from './stack.ts';
import { entries, generationNumbers, headGeneration, readGeneration } from './store.ts';

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
   * The error to tell instead of one that the work met: a newer writer takes the directory away, and then anything in it
   * fails in any way, but what happened is `golden-changed`. The error itself when nobody took over.
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
  const begun = await withImageLock(store, image, ({ layout }) => register(store, layout, writer), signal);
  const { layout, base, below, directory, generation, unpin } = begun;
  const layerDirectory = path.join(directory, 'layer');
  const write = { store, layout, writer, base, below, generation, directory, layerDirectory, started };
  const explain = async (error: unknown): Promise<unknown> =>
    error instanceof GoldenRefusal ? error : ((await takenOver(layout, writer)) ?? error);
  return {
    fence: writer.fence,
    base,
    below,
    generation,
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
    async [Symbol.asyncDispose]() {
      await unpin?.();
      await discard(directory, store.trash, { wait: true }); // on a full disk the next one needs the room
    },
  };
}

/** Shuts out every older writer, and removes what they left: their fence can never publish again. */
async function register(store: ImageStore, layout: ImageLayout, writer: Writer) {
  const claim = await readClaim(layout);
  if (claim !== undefined && writer.fence <= claim.fence) {
    const message = `fence ${writer.fence} came too late: ${claim.owner.by} writes ${layout.image} with ${claim.fence}`;
    throw new GoldenRefusal('golden-locked', message);
  }
  const self = identityOf();
  if (self === undefined) throw new Error('cannot read /proc/self/stat');
  await writeClaim(layout, { v: 1, fence: writer.fence, owner: { process: self, by: writer.by } });
  await writer.reached?.('registered');
  for (const name of await entries(layout.work)) await discard(path.join(layout.work, name), store.trash);

  const head = await headGeneration(layout);
  const base = head === undefined ? undefined : await readGeneration(layout, head);
  const id = `${writer.fence}-${randomUUID()}`;
  const directory = path.join(layout.work, id);
  await mkdir(path.join(directory, 'layer'), { recursive: true, mode: 0o755 });
  const pin = { sessionId: `write-${id}`, what: `${writer.by} writes the next generation` };
  const unpin = base && (await writePin(layout, pin, base.generation));
  const below = base === undefined ? [] : stackOf(layout, base);
  const generation = ((await generationNumbers(layout)).at(-1) ?? 0) + 1;
  await writer.reached?.('candidate-made');
  return { layout, base, below, directory, generation, unpin };
}
