/** Removing an image with all of its generations: refused while anybody uses or writes it. */
import { isAlive } from '../exec/process-identity.ts';
import { discard } from '../exec/trash.ts';
import { UsageError } from '../protocol/errors.ts';
import { readClaim, withImageLock } from './claim.ts';
import { layoutOf, type ImageStore } from './layout.ts';
import { isFlattening } from './flatten-current.ts';
import { livePins } from './pins.ts';
import { readRemarks } from './remarks.ts';
import { entries, generationNumbers, readHead } from './store.ts';

/** @throws {UsageError} when there is no such image, or it is in use; it names by whom */
export async function removeImage(store: ImageStore, image: string, signal?: AbortSignal): Promise<void> {
  await readHead(store, image);
  await withImageLock(
    store,
    image,
    async ({ layout, lost }) => {
      const users = (await livePins(layout)).filter((pin) => !isFlattening(pin)).map(({ what }) => what);
      const claim = await readClaim(layout);
      const writes = (await entries(layout.work)).length > 0 && claim !== undefined && isAlive(claim.owner.process);
      if (writes) users.push(`${claim.owner.by} (writing)`);
      if (users.length > 0) throw new UsageError(image, `${image} is in use: ${[...new Set(users)].join(', ')}`);
      lost.throwIfAborted();
      // in one step; whoever waits for the lock meanwhile finds no image any more
      await discard(layout.root, store.trash);
    },
    signal,
  );
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
