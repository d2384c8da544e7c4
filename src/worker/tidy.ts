/**
 * What jobs left on this host's disk a long time ago: their attempts, and inputs that no job has used since. Redis forgets a
 * run after as long (`remembered`); a disk that nobody tidies fills, and then takes no job any more.
 */
import { lstat, readdir } from 'node:fs/promises';
import path from 'node:path';
import type { State } from '../config/state.ts';
import { removeTree } from '../exec/remove-tree.ts';
import { messageOf } from '../protocol/errors.ts';
import type { Log } from './handle.ts';

const day = 86_400_000;

/** A day after it was begun, an input that is still a draft is a dead producer's. */
const draftAge = day;

/**
 * Now and every day from then on. @param keep milliseconds for which the files of a job are kept @param redisNow what is old is
 * old by both clocks, this host's and Redis's: with one that has jumped ahead, everything would be
 */
export function tidyDaily(
  state: Pick<State, 'jobs' | 'artifacts'>,
  keep: number,
  redisNow: () => Promise<number>,
  log: Log,
): Disposable {
  const tidyNow = async (): Promise<Removed> => tidy(state, keep, log, Math.min(Date.now(), await redisNow()));
  const look = (): void =>
    void tidyNow().then(
      ({ runs, inputs }) => {
        if (runs + inputs > 0) log(`removed the files of ${runs} old jobs and ${inputs} of their inputs`);
      },
      (error: unknown) => log(`cannot remove the files of old jobs: ${messageOf(error)}`),
    );
  const timer = setInterval(look, day);
  timer.unref();
  look();
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

export interface Removed {
  readonly runs: number;
  readonly inputs: number;
}

/** An input stays for as long since a job took it, or a producer handed it in: one that needs it may still wait in a queue. */
const inputsFor = 60 * day;

/** Inputs stay for twice as long as files of jobs, and at least for `inputsFor`. */
export async function tidy(
  { jobs, artifacts }: Pick<State, 'jobs' | 'artifacts'>,
  keep: number,
  log: Log,
  now: number = Date.now(),
): Promise<Removed> {
  const runs = await removeOld(jobs, log, async (run) => (await latestChange(run)) < now - keep);
  const inputs = await removeOld(artifacts, log, async (file, name) => {
    const { mtimeMs } = await lstat(file);
    return mtimeMs < now - (name.startsWith('.draft-') ? draftAge : Math.max(2 * keep, inputsFor));
  });
  return { runs, inputs };
}

async function removeOld(
  folder: string,
  log: Log,
  isOld: (file: string, name: string) => Promise<boolean>,
): Promise<number> {
  let removed = 0;
  for (const name of await readdir(folder).catch(() => [])) {
    const file = path.join(folder, name);
    if (!(await isOld(file, name).catch(() => false))) continue; // gone meanwhile
    await removeTree(file).then(
      () => (removed += 1),
      (error: unknown) => log(`cannot remove ${file}: ${messageOf(error)}`), // and goes on with the others
    );
  }
  return removed;
}

/** Of a run: its attempts come and go, and a job that runs for weeks writes its log. */
async function latestChange(run: string): Promise<number> {
  const attempts = await readdir(run);
  const files = attempts.flatMap((attempt) => ['.', 'log', 'artifacts', 'result.json'].map((name) => [attempt, name]));
  const times = await Promise.all(
    [[], ...files].map((parts) =>
      lstat(path.join(run, ...parts)).then(
        ({ mtimeMs }) => mtimeMs,
        () => 0,
      ),
    ),
  );
  return Math.max(...times);
}
