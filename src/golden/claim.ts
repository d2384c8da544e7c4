/**
 * Who may publish: the claim at the store, and the lock under which claim and head change. A lease (Redis, or local) is
 * for liveness; this is for safety, and needs neither clock nor network: a fence counts only if it is greater than every
 * one seen here before, and publishing requires that the claim still be one's own.
 */
import { constants } from 'node:fs';
import { access, mkdir, rm } from 'node:fs/promises';
import * as z from 'zod';
import { flock } from '../exec/flock.ts';
import { processIdentitySchema } from '../exec/process-identity.ts';
import { discard } from '../exec/trash.ts';
import { isReadOnly, readJson, syncFolder, writeDurably } from '../exec/durable.ts';
import { UnavailableError } from '../protocol/errors.ts';
import { generationFolder, layoutOf, type ImageLayout, type ImageStore } from './layout.ts';
import { headGeneration } from './store.ts';

const claimSchema = z.object({
  v: z.literal(1),
  /** Never decreases. */
  fence: z.number().int().nonnegative(),
  owner: z.object({ process: processIdentitySchema, by: z.string() }),
  /** Set while a generation is being moved in: it counts only if head points to it. */
  publishing: z.number().int().positive().optional(),
});
export type Claim = z.infer<typeof claimSchema>;

export interface LockedImage {
  readonly layout: ImageLayout;
  /** Fires if the lock is lost while held; look at it before a step that cannot be undone. */
  readonly lost: AbortSignal;
}

/** Runs `action` while nobody else changes claim or head; first puts right what a killed process left half done. */
export async function withImageLock<T>(
  store: ImageStore,
  image: string,
  action: (locked: LockedImage) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  const layout = layoutOf(store, image);
  await requireWritable(layout.root);
  await mkdir(layout.root, { recursive: true, mode: 0o755 });
  await using lock = await flock(layout.lock, signal);
  await settle(store, layout);
  return await action({ layout, lost: lock.lost });
}

/** @throws {UnavailableError} the folder is on a read-only file system, which is told instead of whatever fails first there */
export async function requireWritable(folder: string): Promise<void> {
  await access(folder, constants.W_OK).catch((error: unknown) => {
    if (isReadOnly(error)) throw new UnavailableError(`${folder} is on a read-only file system`, { cause: error });
  });
}

export async function readClaim(layout: ImageLayout): Promise<Claim | undefined> {
  return readJson(layout.claim, claimSchema);
}

/** Under the lock only. */
export async function writeClaim(layout: ImageLayout, claim: Claim): Promise<void> {
  await writeDurably(layout.claim, `${JSON.stringify(claim)}\n`);
}

/** The highest fence that the store knows: the floor for the next lease. */
export async function highestFence(store: ImageStore, image: string): Promise<number> {
  return (await readClaim(layoutOf(store, image)))?.fence ?? 0;
}

/** A generation moved in whose head never followed was not published: it goes. So do a dead collection's marks. */
async function settle(store: ImageStore, layout: ImageLayout): Promise<void> {
  await rm(layout.collecting, { force: true });
  const claim = await readClaim(layout);
  if (claim?.publishing === undefined) return;
  const { publishing, ...settled } = claim;
  if ((await headGeneration(layout)) !== publishing) {
    await discard(generationFolder(layout, publishing), store.trash);
    await mkdir(layout.generations, { recursive: true });
    await syncFolder(layout.generations);
  }
  await writeClaim(layout, settled);
}
