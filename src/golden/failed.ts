/**
 * What is left of candidates that were not published, for whoever asks why: `failed/<number>/{record.json, log,
 * manifest.tsv}` of the image. The trees are gone. The last few are kept, also when an update goes well later.
 */
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import * as z from 'zod';
import { draftIn, readJson, syncFolder } from '../exec/durable.ts';
import type { ImageLayout } from './layout.ts';

const failedSchema = z.object({
  v: z.literal(1),
  /** ISO 8601, UTC. */
  at: z.string(),
  by: z.string(),
  job: z.string().optional(),
  /** The generation that stayed current. */
  base: z.number().int().positive(),
  step: z.string(),
  reason: z.string(),
});

export type FailedCandidate = z.infer<typeof failedSchema> & {
  /** Absolute; holds `log`, and `manifest.tsv` where the packages could be told. */
  readonly folder: string;
};

export interface Evidence {
  readonly by: string;
  readonly job?: string;
  readonly base: number;
  readonly step: string;
  readonly reason: string;
  readonly log: string;
  /** As manifest.ts makes it. */
  readonly manifest: string | undefined;
}

/** How many are kept. */
const kept = 5;

export async function keepEvidence(layout: ImageLayout, { log, manifest, ...about }: Evidence): Promise<void> {
  await mkdir(layout.failed, { recursive: true, mode: 0o755 });
  const numbers = await numbersIn(layout);
  const draft = draftIn(layout.failed);
  try {
    await mkdir(draft, { mode: 0o755 });
    await writeFile(path.join(draft, 'log'), log);
    if (manifest !== undefined) await writeFile(path.join(draft, 'manifest.tsv'), manifest);
    const record = failedSchema.parse({ v: 1, at: new Date().toISOString(), ...about });
    await writeFile(path.join(draft, 'record.json'), `${JSON.stringify(record, undefined, 2)}\n`);
    await rename(draft, path.join(layout.failed, String((numbers.at(-1) ?? 0) + 1)));
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    throw error;
  }
  await syncFolder(layout.failed);
  for (const old of numbers.slice(0, Math.max(0, numbers.length - kept + 1))) {
    await rm(path.join(layout.failed, String(old)), { recursive: true, force: true });
  }
}

/** Newest first. */
export async function failedCandidates(layout: ImageLayout): Promise<FailedCandidate[]> {
  const found: FailedCandidate[] = [];
  for (const number of (await numbersIn(layout)).toReversed()) {
    const folder = path.join(layout.failed, String(number));
    const record = await readJson(path.join(folder, 'record.json'), failedSchema);
    if (record !== undefined) found.push({ ...record, folder });
  }
  return found;
}

async function numbersIn(layout: ImageLayout): Promise<number[]> {
  const names = await readdir(layout.failed).catch(() => []);
  return names
    .filter((name) => /^[1-9]\d*$/.test(name))
    .map(Number)
    .toSorted((a, b) => a - b);
}
