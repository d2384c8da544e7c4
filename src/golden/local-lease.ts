/**
 * The right to write an image on this host: flock(2) on its `write.lock`. Every writer of the host takes it, a worker's job
 * and then its lease in Redis too (both-leases.ts), so that none of them undoes the work of another. The kernel frees it
 * whatever kills the writer. One that is stopped is waited for as long as a lease lives; then the file is replaced, and the
 * stopped one has lost: as with Redis, the fence at the store is what makes that safe.
 */
import { rm } from 'node:fs/promises';
import { flock, type FileLock } from '../exec/flock.ts';
import { ImageLeaseLost } from '../protocol/errors.ts';
import { GoldenRefusal } from '../protocol/testbed.ts';
import type { FenceSource, WriteLease } from './fence-source.ts';
import { layoutOf, type ImageLayout, type ImageStore } from './layout.ts';
import { holderOf, livingHolder, noteHolder, noteWaiter, stoppedHolder, type Holder } from './local-writers.ts';
import { claimOf, readClaim, writeClaim } from './store/claim.ts';
import { inFolder, withImageLock } from './store/image-lock.ts';

export interface LocalLeaseOptions {
  /** For people: who writes. */
  readonly by: string;
  /** Milliseconds to wait for another writer; default: as long as it takes. */
  readonly wait?: number;
  /** Milliseconds without a sign of life after which others take us for stopped; default 60 s. */
  readonly ttl?: number;
  /** Told once, if there is somebody to wait for. */
  readonly onWait?: (line: string) => void;
}

export function localLeases(store: ImageStore, options: LocalLeaseOptions): FenceSource {
  return {
    async acquire(image, floor, signal) {
      const layout = layoutOf(store, image);
      const lock = await lockWithin(store, layout, options, signal);
      try {
        return await hold(layout, lock, options, floor);
      } catch (error) {
        await lock[Symbol.asyncDispose]();
        throw error;
      }
    },
  };
}

/**
 * Takes the lock from whoever has it, and shuts its fence out. Safe at any time. @param fence only if it has this one
 * @returns who had it
 */
export async function breakLocalLease(
  store: ImageStore,
  image: string,
  by: string,
  fence?: number,
): Promise<Holder | undefined> {
  return withImageLock(store, image, async (layout) => {
    const holder = await livingHolder(layout);
    const claim = await readClaim(layout);
    if (holder === undefined || (fence !== undefined && claim?.fence !== fence)) return undefined;
    await writeClaim(layout, claimOf({ fence: (claim?.fence ?? 0) + 1, by }));
    await replace(layout);
    return holder;
  });
}

async function hold(
  layout: ImageLayout,
  lock: FileLock,
  options: LocalLeaseOptions,
  floor: number,
): Promise<WriteLease> {
  const { by, ttl = 60_000 } = options;
  const fence = Math.max(floor, (await readClaim(layout))?.fence ?? 0) + 1;
  const note = noteHolder(layout, by, ttl);
  const lost = new AbortController();
  const lose = (): void => lost.abort(new ImageLeaseLost(`the lock on ${layout.image} was taken by somebody else`));
  const look = setInterval(
    () => {
      if (!lock.isCurrent()) return lose();
      try {
        note.renew();
      } catch {
        // a store that takes no sign of life: whoever waits may take us for stopped
      }
    },
    Math.min(ttl / 4, 2000),
  );
  return {
    fence,
    signal: lost.signal,
    async [Symbol.asyncDispose]() {
      clearInterval(look);
      try {
        await note[Symbol.asyncDispose]();
      } finally {
        await lock[Symbol.asyncDispose]();
      }
    },
  };
}

/** @throws {GoldenRefusal} `golden-locked` when somebody has it still at the end of the wait */
async function lockWithin(
  store: ImageStore,
  layout: ImageLayout,
  { by, wait = Infinity, ttl = 60_000, onWait }: LocalLeaseOptions,
  signal: AbortSignal,
): Promise<FileLock> {
  const free = await inFolder(layout, () => flock(layout.writeLock, signal, false));
  if (free !== undefined) return free;
  const end = performance.now() + wait;
  await using _ = noteWaiter(layout, by);
  if (wait > 0) onWait?.(`waits for ${await holderOf(layout)}, who writes ${layout.image}`);
  for (;;) {
    await takeFromStopped(store, layout, signal);
    const left = Math.max(0, end - performance.now());
    const lock = await inFolder(layout, () => lockFor(layout, Math.min(left, ttl / 4), signal));
    if (lock !== undefined) return lock;
    if (performance.now() >= end) throw await locked(layout, wait);
  }
}

async function lockFor(layout: ImageLayout, wait: number, signal: AbortSignal): Promise<FileLock | undefined> {
  if (wait <= 0) return flock(layout.writeLock, signal, false);
  const limit = AbortSignal.timeout(Math.ceil(wait));
  try {
    return await flock(layout.writeLock, AbortSignal.any([signal, limit]));
  } catch (error) {
    if (limit.aborted && !signal.aborted) return undefined;
    throw error;
  }
}

async function takeFromStopped(store: ImageStore, layout: ImageLayout, signal: AbortSignal): Promise<void> {
  if ((await stoppedHolder(layout)) === undefined) return;
  const again = async (): Promise<void> => {
    if ((await stoppedHolder(layout)) !== undefined) await replace(layout); // another waiter may have done so
  };
  await withImageLock(store, layout.image, again, signal);
}

/** Under the image's lock. The next one to lock makes the file anew; who holds the old one finds that out. */
async function replace(layout: ImageLayout): Promise<void> {
  await rm(layout.writeLock, { force: true });
  await rm(layout.writer, { force: true });
}

async function locked(layout: ImageLayout, wait: number): Promise<GoldenRefusal> {
  const holder = await holderOf(layout);
  return new GoldenRefusal('golden-locked', `${holder} is writing ${layout.image}; waited ${wait / 1000} s`);
}
