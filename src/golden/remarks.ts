/** What people say about generations of an image: that one is kept, that one is bad. One file for each kind of remark. */
import * as z from 'zod';
import { readJson, writeDurably } from '../exec/durable.ts';

const remarksSchema = z.object({
  v: z.literal(1),
  generations: z.array(
    z.object({
      generation: z.number().int().positive(),
      by: z.string(),
      /** ISO 8601, UTC. */
      since: z.string(),
      /** For people. */
      reason: z.string(),
    }),
  ),
});
export type Remark = z.infer<typeof remarksSchema>['generations'][number];

export async function readRemarks(file: string): Promise<readonly Remark[]> {
  return (await readJson(file, remarksSchema))?.generations ?? [];
}

/** Under the image's lock. */
export async function writeRemarks(file: string, generations: readonly Remark[]): Promise<void> {
  await writeDurably(file, `${JSON.stringify(remarksSchema.parse({ v: 1, generations }))}\n`);
}
