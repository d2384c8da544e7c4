/** Refreshing an image on behalf of jobs: however many ask, and whoever else did, it is one run. */
import { outcomeExitCode } from '../protocol/outcome.ts';
import type { UpdateRequest } from '../protocol/job-request.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { enqueue, latestRun } from './enqueue.ts';
import { showRun, type RunDetails } from './runs.ts';

export interface Refresh {
  /** The update-golden run. */
  readonly run: string;
  /** Absent while it waits or runs. */
  readonly ended?: {
    /** The host that ran it. */
    readonly host?: string;
    /** Why the image was not refreshed; absent when it was, or when there was nothing to do. */
    readonly problem?: string;
  };
}

/**
 * The refresh that is under way, or the latest one if it ended after `since` (ms since the epoch); else one that is begun
 * by this. @param arch Debian's name of the image's architecture
 */
export async function askForRefresh(
  redis: RedisHandle,
  request: UpdateRequest,
  arch: string,
  since: number,
): Promise<Refresh> {
  const latest = await latestRun(redis, request);
  if (latest !== undefined) {
    const run = await showRun(redis, latest);
    const refresh = run.state === 'absent' ? undefined : refreshOf(run);
    if (refresh !== undefined && (refresh.ended === undefined || Number(run.finished) >= since)) return refresh;
  }
  return { run: (await enqueue(redis, request, arch)).runId };
}

/** Undefined when nobody knows the run (any more). */
export async function showRefresh(redis: RedisHandle, run: string): Promise<Refresh | undefined> {
  const details = await showRun(redis, run);
  return details.state === 'absent' ? undefined : refreshOf(details);
}

function refreshOf({ id, state, outcome, failure }: RunDetails): Refresh {
  if (['waiting', 'active', 'delayed'].includes(state)) return { run: id };
  const problem = problemOf(state, outcome, failure);
  const host = outcome?.host;
  return {
    run: id,
    ended: { ...(host === undefined ? {} : { host }), ...(problem === undefined ? {} : { problem }) },
  };
}

function problemOf(
  state: RunDetails['state'],
  outcome: RunDetails['outcome'],
  failure: RunDetails['failure'],
): string | undefined {
  if (failure !== undefined) return `${state === 'cancelled' ? 'was cancelled' : 'failed'}: ${failure.message}`;
  if (outcome === undefined || outcomeExitCode(outcome) === 0) return undefined;
  const reason = outcome.result.kind === 'update-golden' ? outcome.result.reason : undefined;
  return `failed: ${reason ?? 'its log says why'}`;
}
