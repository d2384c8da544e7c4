/** What a running worker says of itself in Redis, for those who wait for one. */
import * as z from 'zod';

export const presenceSchema = z.strictObject({
  host: z.string(),
  /** The worker's process: on the same host, a reader can tell at once that it is dead. */
  pid: z.number().int(),
  started: z.string(),
  bootId: z.string(),
  slots: z.number().int(),
  images: z.array(z.string()),
  since: z.number(),
});
export type Presence = z.infer<typeof presenceSchema>;

/** Milliseconds for which a heartbeat counts; renewed at a third of it. */
export const presenceTtl = 30_000;
