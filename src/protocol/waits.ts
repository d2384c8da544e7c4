/** Why a job that could run does not run yet: kept in its run's hash in Redis, for those who ask, and for its next claim. */
import * as z from 'zod';
import { parseJson } from './json.ts';
import { imageNameSchema } from './image.ts';

export const waitsSchema = z.object({
  v: z.literal(1),
  /** The update-golden run that it waits for. */
  run: z.string(),
  image: imageNameSchema,
  /** When it first found the image too old (ms since the epoch). */
  since: z.number(),
  /** How many refreshes it has waited for. */
  refreshes: z.number().int().positive(),
});
export type Waits = z.infer<typeof waitsSchema>;

/** Undefined for nothing, and for what another version has written. */
export function parseWaits(text: string | null | undefined): Waits | undefined {
  return waitsSchema.safeParse(parseJson(text ?? '')).data;
}
