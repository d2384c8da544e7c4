/** Messages that save waiting: lossy by design, everything that they tell can also be found by looking. */
import * as z from 'zod';
import { parseJson } from './json.ts';

export const nudgeSchema = z.union([
  z.strictObject({ enqueued: z.string() }),
  z.strictObject({ cancel: z.string() }),
  z.strictObject({ ended: z.string() }),
  z.strictObject({ host: z.string() }),
]);
export type Nudge = z.infer<typeof nudgeSchema>;

/** Undefined for what another program, or another version, has said. */
export function parseNudge(message: string): Nudge | undefined {
  return nudgeSchema.safeParse(parseJson(message)).data;
}
