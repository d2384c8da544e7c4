/**
 * Who writes an image on this host, and who waits to: small files beside the lock, for people, and for whoever has to tell a
 * writer that is stopped from one that works. The lock is what counts.
 *
 * A holder touches its file with the time since boot. It is not a date: that clock neither jumps nor runs while the machine
 * sleeps, and touching takes no room on a full disk.
 */
import { randomUUID } from 'node:crypto';
import { mkdirSync, statSync, utimesSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import * as z from 'zod';
import { readJson, writeWhole } from '../exec/durable.ts';
import { isAlive, ownIdentity, processIdentitySchema } from '../exec/process-identity.ts';
import { layoutOf, type ImageLayout, type ImageStore } from './layout.ts';
import { entries } from './store.ts';
import { readClaim } from './store/claim.ts';

const waiterSchema = z.object({
  v: z.literal(1),
  by: z.string(),
  process: processIdentitySchema,
  /** Milliseconds since the epoch. */
  since: z.number(),
});

const holderSchema = waiterSchema.extend({
  id: z.string(),
  /** Milliseconds without renewal after which it may be taken for stopped. */
  ttl: z.number().positive(),
});
export type Holder = z.infer<typeof holderSchema>;

export interface LocalWriters {
  readonly holder?: { readonly owner: string; readonly since: number; readonly pid: number; readonly fence?: number };
  /** The first one first. */
  readonly waiting: readonly { readonly owner: string; readonly since: number }[];
}

/** What is known on this host; undefined when nobody writes the image or waits to. */
export async function localWriters(store: ImageStore, image: string): Promise<LocalWriters | undefined> {
  const layout = layoutOf(store, image);
  const holder = await livingHolder(layout);
  const waiting = (await livingWaiters(layout)).map(({ by, since }) => ({ owner: by, since }));
  if (holder === undefined) return waiting.length === 0 ? undefined : { waiting };
  const { by, since, process } = holder;
  const claim = await readClaim(layout);
  const registered = claim?.owner.by === by && claim.owner.process.pid === process.pid;
  const fence = registered ? { fence: claim.fence } : {};
  return { holder: { owner: by, since, pid: process.pid, ...fence }, waiting };
}

/** For messages: who holds it. */
export async function holderOf(layout: ImageLayout): Promise<string> {
  const holder = await livingHolder(layout);
  return holder === undefined ? 'somebody' : `${holder.by} (process ${holder.process.pid})`;
}

/** @returns what renews it, and removes it */
export function noteHolder(layout: ImageLayout, by: string, ttl: number): { renew(): void } & AsyncDisposable {
  const id = randomUUID();
  const holder: Holder = { v: 1, id, by, ttl, process: ownIdentity(), since: Date.now() };
  writeWhole(layout.writer, `${JSON.stringify(holder)}\n`);
  const renew = (): void => utimesSync(layout.writer, sinceBoot() / 1000, sinceBoot() / 1000);
  renew();
  return {
    renew,
    async [Symbol.asyncDispose]() {
      if ((await livingHolder(layout))?.id === id) await rm(layout.writer, { force: true });
    },
  };
}

export function noteWaiter(layout: ImageLayout, by: string): AsyncDisposable {
  mkdirSync(layout.waiting, { recursive: true, mode: 0o755 });
  const file = path.join(layout.waiting, `${randomUUID()}.json`);
  writeWhole(file, `${JSON.stringify({ v: 1, by, process: ownIdentity(), since: Date.now() })}\n`);
  return { [Symbol.asyncDispose]: () => rm(file, { force: true }) };
}

/** Undefined while it works, or is dead: then the kernel has freed its lock. */
export async function stoppedHolder(layout: ImageLayout): Promise<Holder | undefined> {
  const holder = await livingHolder(layout);
  if (holder === undefined) return undefined;
  const renewed = statSync(layout.writer, { throwIfNoEntry: false })?.mtimeMs;
  return renewed !== undefined && sinceBoot() - renewed > holder.ttl ? holder : undefined;
}

export async function livingHolder(layout: ImageLayout): Promise<Holder | undefined> {
  const holder = await told(layout.writer, holderSchema);
  return holder !== undefined && isAlive(holder.process) ? holder : undefined;
}

/** Removes what dead ones left. */
async function livingWaiters(layout: ImageLayout): Promise<z.infer<typeof waiterSchema>[]> {
  const found: z.infer<typeof waiterSchema>[] = [];
  for (const name of await entries(layout.waiting)) {
    const file = path.join(layout.waiting, name);
    const waiter = name.startsWith('.') ? undefined : await told(file, waiterSchema);
    if (waiter === undefined) continue; // being written, or gone meanwhile
    if (isAlive(waiter.process)) found.push(waiter);
    else await rm(file, { force: true });
  }
  return found.toSorted((one, other) => one.since - other.since);
}

/** A power cut may leave an empty one: that tells nothing, and must be in nobody's way. */
async function told<T>(file: string, schema: z.ZodType<T>): Promise<T | undefined> {
  return readJson(file, schema).catch(() => undefined);
}

/** Milliseconds on CLOCK_MONOTONIC, which all processes of a host share. */
function sinceBoot(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}
