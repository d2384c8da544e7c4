/** Where a job's files are on this host, and copying them to where its user wants them. */
import { copyFile, cp, mkdir, readdir } from 'node:fs/promises';
import path from 'node:path';
import type { State } from '../config/state.ts';
import type { RunDetails } from '../producer/runs.ts';

/** The folder of the attempt whose outcome counts, else of the last one here; undefined when this host has none. */
export async function resultFolder(
  { jobs }: Pick<State, 'jobs'>,
  { id, outcome }: Pick<RunDetails, 'id' | 'outcome'>,
): Promise<string | undefined> {
  const run = path.join(jobs, id);
  const names = await readdir(run).catch(() => []);
  const attempts = names.map(Number).filter(Number.isInteger);
  if (outcome !== undefined && !attempts.includes(outcome.attempt)) return undefined;
  if (attempts.length === 0) return undefined;
  return path.join(run, String(outcome?.attempt ?? Math.max(...attempts)));
}

/** The artifacts as they are; where the log is not among them under a name of its own, it lies beside them as `log`. */
export async function fetchResults(folder: string, target: string): Promise<void> {
  await mkdir(target, { recursive: true });
  const artifacts = path.join(folder, 'artifacts');
  await cp(artifacts, target, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
  const names = await readdir(artifacts);
  if (names.includes('log') || names.some((name) => name.endsWith('.build'))) return;
  await copyFile(path.join(folder, 'log'), path.join(target, 'log'));
}
