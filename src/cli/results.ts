/** Where a job's files are on this host, and copying them to where its user wants them. */
import { access, constants, copyFile, cp, mkdir, readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { messageOf, UsageError } from '../protocol/errors.ts';
import { outcomeSchema, type Outcome } from '../protocol/outcome.ts';
import type { RunDetails } from '../producer/runs.ts';
import type { Context } from './context.ts';

/**
 * The folder of the attempt whose outcome counts, else of the last one here; undefined when this host has none. Ids come from
 * content: a folder of that name may be of another queue, or of a time that its Redis has forgotten.
 */
export async function resultFolder(
  { state, settings }: Context,
  { id, outcome }: Pick<RunDetails, 'id' | 'outcome'>,
): Promise<string | undefined> {
  const run = path.join(state.jobs, id);
  const names = await readdir(run).catch(() => []);
  const attempts = names.map(Number).filter(Number.isInteger);
  if (attempts.length === 0) return undefined;
  if (outcome === undefined) return path.join(run, String(Math.max(...attempts)));
  const folder = path.join(run, String(outcome.attempt));
  if (!attempts.includes(outcome.attempt)) return undefined;
  const recorded = await recordedIn(folder);
  // on a full disk it is told to Redis alone
  const same = recorded === undefined ? outcome.host === settings.worker.name : isDeepStrictEqual(recorded, outcome);
  return same ? folder : undefined;
}

async function recordedIn(folder: string): Promise<Outcome | undefined> {
  try {
    return outcomeSchema.parse(JSON.parse(await readFile(path.join(folder, 'result.json'), 'utf8')));
  } catch {
    return undefined;
  }
}

/** Before anything is begun that would have no place. @throws {UsageError} */
export async function makeOutput(target: string): Promise<void> {
  try {
    await mkdir(target, { recursive: true });
    await access(target, constants.W_OK);
  } catch (error) {
    throw new UsageError('--output', `${target}: expected a folder that can be written (${messageOf(error)})`);
  }
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
