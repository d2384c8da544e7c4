/**
 * Generations as directories of a POSIX file system. Each step happens under the image's lock, a flock(2) that this very
 * process holds: stopped in the middle of a step it keeps the lock, killed it leaves what the next one to lock puts right.
 *
 * A commit announces its number in the claim, moves the generation in, and points `head` to it: that rename of a link is the
 * moment of publication. Killed before it, what was announced is removed; killed after it, the new generation stands.
 */
import { mkdir, rename } from 'node:fs/promises';
import { pointDurably, syncFolder } from '../../exec/durable.ts';
import { GoldenRefusal } from '../../protocol/testbed.ts';
import { generationFolder, layoutOf, type ImageLayout, type ImageStore } from '../layout.ts';
import { generationNumbers, headGeneration } from '../store.ts';
import { claimOf, readClaim, writeClaim, type Claim } from './claim.ts';
import type { Assembled, GenerationStore, Registered, Writer } from './generation-store.ts';
import { withImageLock } from './image-lock.ts';

/** @throws {UsageError} when the name is not an image name */
export function directoryStore(store: ImageStore, image: string): GenerationStore {
  const layout = layoutOf(store, image);
  const locked = <T>(action: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> =>
    withImageLock(store, image, action, signal);
  return {
    image: layout.image,
    head: () => headGeneration(layout),
    highestFence: async () => (await readClaim(layout))?.fence ?? 0,
    register: (writer, signal) => locked(() => register(layout, writer), signal),
    commit: (assembled, signal) => locked(() => commit(layout, assembled), signal),
    makeCurrent: (choose, signal) => locked(async () => pointTo(layout, await choose()), signal),
    async takenOver({ fence }) {
      const claim = await readClaim(layout);
      return claim?.fence === fence ? undefined : refusedTo(layout, claim);
    },
  };
}

async function register(layout: ImageLayout, writer: Writer): Promise<Registered> {
  const claim = await readClaim(layout);
  if (claim !== undefined && writer.fence <= claim.fence) {
    const message = `fence ${writer.fence} came too late: ${claim.owner.by} writes ${layout.image} with ${claim.fence}`;
    throw new GoldenRefusal('golden-locked', message);
  }
  await writeClaim(layout, claimOf(writer));
  await writer.reached?.('registered');
  const base = await headGeneration(layout);
  return { base, next: ((await generationNumbers(layout)).at(-1) ?? 0) + 1 };
}

async function commit(layout: ImageLayout, { writer, base, next, folder }: Assembled): Promise<void> {
  await writer.reached?.('locked');
  const claim = await readClaim(layout);
  if (claim?.fence !== writer.fence) throw refusedTo(layout, claim);
  const head = await headGeneration(layout);
  if (head !== base) throw refused(layout, `its current generation became ${head ?? 'none'} meanwhile`);
  // what is announced and does not become current is removed: it must not be one that was published before
  if ((await generationNumbers(layout)).includes(next)) throw refused(layout, `it has a generation ${next} already`);
  await writeClaim(layout, { ...claim, publishing: next });
  await writer.reached?.('announced');
  await mkdir(layout.generations, { recursive: true, mode: 0o755 });
  await rename(folder, generationFolder(layout, next));
  await syncFolder(layout.generations);
  await writer.reached?.('moved');
  await pointTo(layout, next).catch(async (error: unknown) => {
    // a disk that failed after the rename: readers have the new generation, and to say anything else would be wrong
    if ((await headGeneration(layout)) !== next) throw error;
  });
  await writer.reached?.('published');
  // published: a claim that stays announced is put right by whoever locks the image next
  await writeClaim(layout, claim).catch(() => {});
  await writer.reached?.('settled');
}

/** The moment at which something changes for readers. */
async function pointTo(layout: ImageLayout, generation: number): Promise<number> {
  if ((await headGeneration(layout)) !== generation) await pointDurably(layout.head, `generations/${generation}`);
  return generation;
}

function refusedTo(layout: ImageLayout, claim: Claim | undefined): GoldenRefusal {
  const [by, fence] = [claim?.owner.by ?? 'somebody', claim?.fence ?? 'lost'];
  return refused(layout, `${by} has taken over writing it (fence ${fence})`);
}

function refused(layout: ImageLayout, why: string): GoldenRefusal {
  return new GoldenRefusal('golden-changed', `${layout.image} was not written: ${why}`);
}
