/**
 * The write lease of one host, for a stand-alone goldbed-virt: flock(2) on the image's `write.lock`, which the kernel
 * frees whatever kills the writer. The next fence is the store's own plus one: who holds the lock is alone with it.
 */
import { mkdir } from 'node:fs/promises';
import { flock, type FileLock } from '../exec/flock.ts';
import { ImageLeaseLost } from '../protocol/errors.ts';
import { GoldenRefusal } from '../protocol/testbed.ts';
import { highestFence, readClaim } from './claim.ts';
import type { FenceSource } from './fence-source.ts';
import { layoutOf, type ImageLayout, type ImageStore } from './layout.ts';

/** @param waitSeconds how long to wait for another writer; 0 for not at all */
export function localLeases(store: ImageStore, waitSeconds: number): FenceSource {
  return {
    async acquire(image, floor, signal) {
      const layout = layoutOf(store, image);
      await mkdir(layout.root, { recursive: true, mode: 0o755 });
      const lock = await lockWithin(layout, waitSeconds, signal);
      if (lock === undefined) throw await locked(layout, waitSeconds);
      const lost = new AbortController();
      lock.lost.addEventListener('abort', () => lost.abort(new ImageLeaseLost(`the lock on ${image} was lost`)));
      const fence = Math.max(floor, await highestFence(store, image)) + 1;
      return { fence, signal: lost.signal, [Symbol.asyncDispose]: () => lock[Symbol.asyncDispose]() };
    },
  };
}

async function lockWithin(layout: ImageLayout, seconds: number, signal: AbortSignal): Promise<FileLock | undefined> {
  if (seconds <= 0) return flock(layout.writeLock, signal, false);
  const limit = AbortSignal.timeout(seconds * 1000);
  try {
    return await flock(layout.writeLock, AbortSignal.any([signal, limit]));
  } catch (error) {
    if (limit.aborted && !signal.aborted) return undefined;
    throw error;
  }
}

async function locked(layout: ImageLayout, seconds: number): Promise<GoldenRefusal> {
  const owner = (await readClaim(layout))?.owner.by ?? 'somebody';
  return new GoldenRefusal('golden-locked', `${owner} is writing ${layout.image}; waited ${seconds} s`);
}
