/** Removing an image with all of its generations: refused while anybody uses or writes it. */
import { rm } from 'node:fs/promises';
import { isFullDisk, writeWhole } from '../exec/durable.ts';
import { discard } from '../exec/trash.ts';
import { UsageError } from '../protocol/errors.ts';
import { GoldenRefusal } from '../protocol/testbed.ts';
import type { WriteLease } from './fence-source.ts';
import { layoutOf, type ImageLayout, type ImageStore } from './layout.ts';
import { isFlattening } from './flatten-current.ts';
import { localLeases } from './local-lease.ts';
import { allLivePins } from './pins.ts';
import { readRemarks } from './remarks.ts';
import { generationNumbers, readHead } from './store.ts';
import { withImageLock } from './store/image-lock.ts';

/**
 * @throws {UsageError} when there is no such image, or it is in use; it names by whom
 * @throws {HostError} when a pin cannot be read
 */
export async function removeImage(
  store: ImageStore,
  image: string,
  by: string,
  signal: AbortSignal = new AbortController().signal,
): Promise<void> {
  await readHead(store, image);
  await using _ = await asLastWriter(store, image, by, signal);
  await withImageLock(
    store,
    image,
    async (layout) => {
      // marks first, then a look at the pins, as a collection does it: who pins after that finds them, and waits for the lock
      mark(layout, await generationNumbers(layout));
      const users = (await allLivePins(layout)).filter((pin) => !isFlattening(pin)).map(({ what }) => what);
      if (users.length > 0) {
        await rm(layout.collecting, { force: true });
        throw new UsageError(image, `${image} is in use: ${[...new Set(users)].join(', ')}`);
      }
      // in one step; whoever waits for a lock in it meanwhile finds no image any more
      await discard(layout.root, store.trash);
    },
    signal,
  );
}

/** On a full disk it goes without: an image is removed to make room. */
function mark(layout: ImageLayout, generations: readonly number[]): void {
  try {
    writeWhole(layout.collecting, JSON.stringify({ generations }));
  } catch (error) {
    if (!isFullDisk(error)) throw error;
  }
}

/** Nobody writes it now, nor begins to. */
async function asLastWriter(store: ImageStore, image: string, by: string, signal: AbortSignal): Promise<WriteLease> {
  try {
    return await localLeases(store, { by, wait: 0 }).acquire(image, 0, signal);
  } catch (error) {
    if (!(error instanceof GoldenRefusal)) throw error;
    throw new UsageError(image, `${image} is in use: ${error.message}`, { cause: error });
  }
}

/** The generation to go back to: the newest good one older than the current. @throws {UsageError} when there is none */
export async function previousGeneration(store: ImageStore, image: string): Promise<number> {
  const head = await readHead(store, image);
  const layout = layoutOf(store, image);
  const bad = (await readRemarks(layout.quarantined)).map(({ generation }) => generation);
  const numbers = await generationNumbers(layout);
  const older = numbers
    .filter((number) => number < head.generation && !bad.includes(number))
    .toSorted((one, other) => other - one);
  if (older[0] === undefined) throw new UsageError(image, `${image} has no generation older than ${head.generation}`);
  return older[0];
}
