/**
 * A session pins its generation: nothing of it is removed until the session, or its process, is gone.
 *
 * Pinning takes no lock, so a reader never waits for a writer. Against a collection at the same moment: the reader writes
 * its pin, then looks at the collection's marks, then whether the generation is still there; the collection writes its
 * marks, then looks at the pins, removes, and takes its marks back. Whoever comes second sees the other, and gives way.
 */
import { mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import * as z from 'zod';
import type { Content } from '../backends/backend.ts';
import { isAlive, ownIdentity, processIdentitySchema } from '../exec/process-identity.ts';
import { withImageLock } from './store/image-lock.ts';
import { userName } from '../exec/user-name.ts';
import { isLost, isReadOnly, readJson, removeDeadDrafts, writeWhole } from '../exec/durable.ts';
import { HostError, messageOf } from '../protocol/errors.ts';
import { layoutOf, type ImageLayout, type ImageStore } from './layout.ts';
import type { GenerationRecord } from './record.ts';
import { contentOf, stackOf } from './stack.ts';
import { entries, headGeneration, imageNames, readGeneration, unknownImage } from './store.ts';

const pinSchema = z.object({
  v: z.literal(1),
  session: z.string(),
  process: processIdentitySchema,
  /** ISO 8601, UTC. */
  since: z.string(),
  generation: z.number().int().positive(),
  /** For people: `build job 4711`. */
  what: z.string(),
  /** Whose process it is. */
  by: z.string().optional(),
  /** The job that it belongs to. */
  job: z.string().optional(),
});
export type Pin = z.infer<typeof pinSchema>;

export interface PinRequest {
  /** A file name. */
  readonly sessionId: string;
  readonly what: string;
  readonly job?: string;
  /** Default: the current one. */
  readonly generation?: number;
}

export interface Pinned extends AsyncDisposable {
  readonly record: GenerationRecord;
  readonly content: Content;
}

/** What the marks file of a collection holds. */
export const marksSchema = z.object({ generations: z.array(z.number()) });

/** @throws {UsageError} when there is no such image or generation */
export async function pinGeneration(store: ImageStore, image: string, request: PinRequest): Promise<Pinned> {
  const layout = layoutOf(store, image);
  for (;;) {
    const generation = request.generation ?? (await readHeadNumber(store, layout));
    const release = await pinForReading(layout, request, generation);
    try {
      const marked = await readMarks(layout);
      const record = await readGeneration(layout, generation);
      if (marked === 'nothing' || (marked !== 'unknown' && !needs(layout, record, marked))) {
        return { record, content: contentOf(layout, record), [Symbol.asyncDispose]: release };
      }
      await release();
    } catch (error) {
      await release();
      const moved = request.generation === undefined && (await headGeneration(layout)) !== generation;
      if (!moved) throw error; // else it was collected before the pin was there: take the new one
    }
    await withImageLock(store, image, async () => {}); // until that collection has ended: milliseconds
  }
}

/** Marks that cannot be read, as a power cut may leave them, may be of any generation: whoever locks the image removes them. */
async function readMarks(layout: ImageLayout): Promise<readonly number[] | 'nothing' | 'unknown'> {
  try {
    return (await readJson(layout.collecting, marksSchema))?.generations ?? 'nothing';
  } catch {
    return 'unknown';
  }
}

/** On a read-only store there is nothing to guard against: what it has stays, and no pin can be written. */
async function pinForReading(
  layout: ImageLayout,
  request: PinRequest,
  generation: number,
): Promise<() => Promise<void>> {
  try {
    return await writePin(layout, request, generation);
  } catch (error) {
    if (!isReadOnly(error)) throw error;
    return async () => {};
  }
}

/** Writes the pin itself; enough under the lock. @returns what removes it */
export async function writePin(
  layout: ImageLayout,
  request: PinRequest,
  generation: number,
): Promise<() => Promise<void>> {
  const { sessionId: session, what, job } = request;
  const since = new Date().toISOString();
  const more = job === undefined ? {} : { job };
  const pin: Pin = { v: 1, session, process: ownIdentity(), since, generation, what, by: userName(), ...more };
  const file = path.join(layout.pins, `${session}.json`);
  makePins(layout);
  writeWhole(file, `${JSON.stringify(pin)}\n`);
  return () => rm(file, { force: true });
}

/** Not recursively: that says ENOENT where the truth is that the file system is read-only. */
function makePins({ pins }: ImageLayout): void {
  try {
    mkdirSync(pins);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

/** Pins of living processes, oldest first, as far as they can be read: for people. Removes those of dead ones. */
export async function livePins(layout: ImageLayout): Promise<Pin[]> {
  return (await readPins(layout)).live;
}

/** For those who remove generations. @throws {HostError} one cannot be read: what it holds is not known */
export async function allLivePins(layout: ImageLayout): Promise<Pin[]> {
  const { live, unreadable } = await readPins(layout);
  if (unreadable.length === 0) return live;
  const then = `remove ${unreadable.length === 1 ? 'it' : 'them'} when no session is open on ${layout.image}`;
  throw new HostError(`nothing of ${layout.image} is removed: ${unreadable.join('; ')}; ${then}`);
}

async function readPins(layout: ImageLayout): Promise<{ live: Pin[]; unreadable: string[] }> {
  const live: Pin[] = [];
  const unreadable: string[] = [];
  await removeDeadDrafts(layout.pins);
  for (const name of await entries(layout.pins)) {
    const file = path.join(layout.pins, name);
    if (name.startsWith('.')) continue; // being written
    try {
      const pin = await readJson(file, pinSchema);
      if (pin === undefined) continue; // released meanwhile
      if (isAlive(pin.process)) live.push(pin);
      else await removeDead(file);
    } catch (error) {
      if (await isLost(file)) await removeDead(file);
      else unreadable.push(messageOf(error));
    }
  }
  return { live: live.toSorted((one, other) => one.since.localeCompare(other.since)), unreadable };
}

/** Pins of dead processes hold nothing, but where nobody collects or shows images they would stay for ever. */
export async function reapPins(store: ImageStore): Promise<void> {
  for (const image of await imageNames(store)) await livePins(layoutOf(store, image));
}

/** Whether a session that opens a generation now cannot be without one of these: itself or one of its layers. */
export function needs(layout: ImageLayout, record: GenerationRecord, generations: readonly number[]): boolean {
  return [record, ...stackOf(layout, record)].some(({ generation }) => generations.includes(generation));
}

async function readHeadNumber(store: ImageStore, layout: ImageLayout): Promise<number> {
  const head = await headGeneration(layout);
  if (head === undefined) throw await unknownImage(store, layout.image);
  return head;
}

/** A look at a read-only store shows what is there. */
async function removeDead(file: string): Promise<void> {
  await rm(file, { force: true }).catch((error: unknown) => {
    if (!isReadOnly(error)) throw error;
  });
}
