/** Which runs had to do with one generation of an image of this host: by its digest, not by its number. */
import type { State } from '../config/state.ts';
import type { JobsOnGeneration } from '../golden/index.ts';
import { allRunsOfImage } from '../producer/runs-of-image.ts';
import type { RunDetails } from '../producer/runs.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { attemptedOn } from '../worker/attempt-folder.ts';

export interface RanOn {
  readonly run: RunDetails;
  /** It has not ended, and is on it now. */
  readonly running: boolean;
}

/**
 * Builds and tests, newest first: those that ended on it with a result, those that failed on this host without one, and
 * those that are on it. One that waits, or runs on another generation, will have its result from that.
 */
export async function ranOn(
  redis: RedisHandle,
  state: State,
  image: string,
  { digest, jobs }: JobsOnGeneration,
): Promise<RanOn[]> {
  const found: RanOn[] = [];
  for await (const run of allRunsOfImage(redis, image)) {
    if (run.kind === 'update-golden') continue;
    const running = run.state === 'active' && jobs.has(run.id);
    const ended = run.outcome?.generation?.digest === digest;
    const failed = run.state === 'failed' && (await attemptedOn(state, run.id)).includes(digest);
    if (running || ended || failed) found.push({ run, running });
  }
  return found;
}
