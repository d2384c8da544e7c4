/** What a running worker says of itself in Redis: for those who wait for one, and for `goldbed host`. */
import * as z from 'zod';
import { parseJson } from './json.ts';
import { fits, minus, resourcesSchema, sizeSchema, usualSize, type Size } from './size.ts';

/** What another version says beside this is passed over. */
export const presenceSchema = z.object({
  host: z.string(),
  /** Names this run of the worker; its claims' tokens begin with it. */
  incarnation: z.string(),
  /** The worker's process: in the same PID namespace of the same host, a reader can tell at once that it is dead. */
  pid: z.number().int(),
  started: z.string(),
  bootId: z.string(),
  pidNamespace: z.string().optional(),
  /** As many jobs of the usual size fit it. */
  slots: z.number().int(),
  /** Slots that are taken. */
  busy: z.number().int().default(0),
  /** What its jobs may take together, and what those that run have reserved. Absent in that of an earlier version. */
  capacity: resourcesSchema.optional(),
  reserved: resourcesSchema.optional(),
  /** What it reserves for a job, by size. */
  sizes: z.record(sizeSchema, resourcesSchema).optional(),
  /** The size of a job that has waited too long for room here: what gets free is kept for it. */
  keepsRoomFor: sizeSchema.optional(),
  images: z.array(z.string()),
  /** The current generation of each image that the host has itself. */
  generations: z.record(z.string(), z.number().int()).default({}),
  /** The backends, each with what it lacks on this host; null for one that works. */
  backends: z.record(z.string(), z.string().nullable()).default({}),
  /** Megabytes free in the state folder. */
  freeDisk: z.number().optional(),
  /** Debian architecture of its testbeds. */
  arch: z.string().optional(),
  /** Of goldbed, node and the clients, by name. */
  versions: z.record(z.string(), z.string()).default({}),
  /** Why it takes no jobs of its own accord, part by part (breaker.ts); empty while all is well. */
  troubles: z.array(z.string()).default([]),
  since: z.number(),
  /** Milliseconds for which a heartbeat counts: with the score, when the last one came. */
  counts: z.number().optional(),
});
export type Presence = z.infer<typeof presenceSchema>;

/** Whether the host of this worker is large enough. */
export function takesSize({ capacity, sizes }: Presence, size: Size): boolean {
  if (capacity === undefined || sizes === undefined) return size === usualSize;
  return fits(sizes[size], capacity);
}

/** Whether a job of this size fits beside those that run. */
export function hasRoomFor({ capacity, reserved, sizes, slots, busy }: Presence, size: Size): boolean {
  if (capacity === undefined || reserved === undefined || sizes === undefined) return busy < slots;
  return fits(sizes[size], minus(capacity, reserved));
}

/** Undefined for nothing, and for what another version, or another program, has written. */
export function parsePresence(text: string | null | undefined): Presence | undefined {
  return presenceSchema.safeParse(parseJson(text ?? '')).data;
}

/** What an operator has said of a host: it takes no jobs until that is taken back. */
export const drainedSchema = z.strictObject({ reason: z.string(), since: z.number() });
export type Drained = z.infer<typeof drainedSchema>;
