/** What the last updates of an image found when they published nothing: an image may be old and still up to date. */
import * as z from 'zod';
import { readJson, writeDurably } from '../exec/durable.ts';
import { layoutOf, type ImageLayout, type ImageStore } from './layout.ts';

const noteSchema = z.object({
  /** ISO 8601, UTC. */
  at: z.string(),
  by: z.string(),
  job: z.string().optional(),
});

const lookedSchema = z.object({
  v: z.literal(1),
  /** The last time that an update found nothing to do on a generation. */
  unchanged: noteSchema.extend({ generation: z.number().int().positive() }).optional(),
  /** The last update's failure; gone as soon as one succeeds, or somebody says which generation is current. */
  failed: noteSchema.extend({ step: z.string(), reason: z.string() }).optional(),
});
export type Looked = z.infer<typeof lookedSchema>;
export type LookedNote = z.infer<typeof noteSchema>;

export type Finding =
  | { readonly status: 'unchanged'; readonly generation: number }
  | { readonly status: 'failed'; readonly step: string; readonly reason: string };

export async function readLooked(layout: ImageLayout): Promise<Looked> {
  return (await readJson(layout.looked, lookedSchema)) ?? { v: 1 };
}

/** Notes how an update ended that published nothing. */
export async function noteUpdate(
  store: ImageStore,
  image: string,
  finding: Finding,
  who: { readonly by: string; readonly job?: string },
): Promise<void> {
  const layout = layoutOf(store, image);
  const { failed: _, ...before } = await readLooked(layout);
  const note = { at: new Date().toISOString(), ...who };
  const { status, ...found } = finding;
  await write(layout, { ...before, [status]: { ...note, ...found } });
}

/**
 * What failed before counts no more: there is a new generation, or somebody has chosen one. Never throws: that has happened,
 * and a note that stays too long is the smaller evil.
 */
export async function forgetFailure(layout: ImageLayout): Promise<void> {
  try {
    const { failed, ...rest } = await readLooked(layout);
    if (failed !== undefined) await write(layout, rest);
  } catch {
    // a full disk, a damaged file: `image ls` says so, or says what it said
  }
}

async function write(layout: ImageLayout, looked: Looked): Promise<void> {
  await writeDurably(layout.looked, `${JSON.stringify(lookedSchema.parse(looked))}\n`);
}
