/** What was measured, raw, in bench/results.json: the report is made from it, and so can any other be. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import * as z from 'zod';
import type { Steps } from '../src/protocol/outcome.ts';

const series = z.array(z.number());
const rows = z.record(z.string(), z.record(z.string(), series));

/** When, where and how a section was measured. */
const contextSchema = z.object({
  date: z.string(),
  command: z.string(),
  rounds: z.number(),
  suite: z.string(),
  image: z.string(),
  machine: z.array(z.string()),
});
export type SectionContext = z.infer<typeof contextSchema>;

/** Milliseconds by server and quantity. */
const wireSchema = z.object({
  floor: series,
  servers: rows,
  missing: z.array(z.object({ name: z.string(), why: z.string() })),
});
export type WireResults = z.infer<typeof wireSchema>;

/** Seconds by program and stage. */
const buildSchema = z.object({ source: z.string(), programs: rows });
export type BuildResults = z.infer<typeof buildSchema>;

/** Seconds by program and kind of update. */
const updateSchema = z.object({ upgraded: series, programs: rows });
export type UpdateResults = z.infer<typeof updateSchema>;

/** Seconds, bytes and milliseconds by program and quantity; and what an idle fleet costs. */
const queueSchema = z.object({
  size: z.record(z.string(), z.number()),
  programs: rows,
  fleet: z.record(z.string(), z.number()),
});
export type QueueResults = z.infer<typeof queueSchema>;

/** Milliseconds and counts by server; and milliseconds by the depth of the stack. */
const readersSchema = z.object({ programs: rows, depths: z.record(z.string(), series) });
export type ReadersResults = z.infer<typeof readersSchema>;

const resultsSchema = z.object({
  wire: wireSchema.extend({ context: contextSchema }).optional(),
  build: buildSchema.extend({ context: contextSchema }).optional(),
  update: updateSchema.extend({ context: contextSchema }).optional(),
  readers: readersSchema.extend({ context: contextSchema }).optional(),
  queue: queueSchema.extend({ context: contextSchema }).optional(),
});
export type Results = z.infer<typeof resultsSchema>;

const file = fileURLToPath(new URL('./results.json', import.meta.url));

export function readResults(): Results {
  return existsSync(file) ? resultsSchema.parse(JSON.parse(readFileSync(file, 'utf8'))) : {};
}

export function writeResults(results: Results): void {
  writeFileSync(file, `${JSON.stringify(results, null, 1)}\n`);
}

/** Steps as they were told, and what they leave of the whole: for whoever asks where the time goes. */
export function stepDetails(steps: Steps, total: number): Record<string, number> {
  const known = steps.reduce((sum, { seconds }) => sum + seconds, 0);
  const all = [...steps, { name: 'around', seconds: total - known }];
  return Object.fromEntries(all.map(({ name, seconds }) => [`${stepPrefix}${name}`, seconds]));
}

export const stepPrefix = 'step ';

/** Nobody is always first. */
export function inTurn<T>(all: readonly T[], round: number): T[] {
  const first = round % all.length;
  return [...all.slice(first), ...all.slice(0, first)];
}
