/** What the long run of the chaos suite has told (`npm run test:chaos`), a line of JSON for each fleet, in bench/chaos.jsonl. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import * as z from 'zod';

const fleetSchema = z.object({
  date: z.string(),
  /** Of GOLDBED_CHAOS_SEED. */
  seed: z.number(),
  /** How many, by kind. */
  faults: z.record(z.string(), z.number()),
  jobs: z.number(),
  /** Of the jobs, those that sbuild itself built. */
  real: z.number(),
  attempts: z.number(),
  /** Jobs that were acknowledged and have no result. */
  lost: z.number(),
  /** Jobs that were done more than once, and counted once. */
  repeated: z.number(),
  /** Whatever was wrong in the end, lost jobs among it. */
  complaints: z.number(),
  /** By hand: what a complaint was of. */
  remark: z.string().optional(),
});
export type ChaosFleet = z.infer<typeof fleetSchema>;

const file = fileURLToPath(new URL('./chaos.jsonl', import.meta.url));

export function readChaos(): readonly ChaosFleet[] {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, 'utf8').split('\n').filter(Boolean);
  return lines.map((line) => fleetSchema.parse(JSON.parse(line)));
}
