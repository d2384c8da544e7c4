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
  /** The last update's failure; gone as soon as one succeeds. */
  failed: noteSchema.extend({ step: z.string(), reason: z.string() }).optional(),
});
export type Looked = z.infer<typeof lookedSchema>;
export type LookedNote = z.infer<typeof noteSchema>;

export type Finding =
  | { readonly status: 'published' }
  | { readonly status: 'unchanged'; readonly generation: number }
  | { readonly status: 'failed'; readonly step: string; readonly reason: string };

export async function readLooked(layout: ImageLayout): Promise<Looked> {
  return (await readJson(layout.looked, lookedSchema)) ?? { v: 1 };
}

/** Notes how an update ended. */
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
  const after = status === 'published' ? before : { ...before, [status]: { ...note, ...found } };
  await writeDurably(layout.looked, `${JSON.stringify(lookedSchema.parse(after))}\n`);
}
