/** All that a worker does with a claimed job, from the claim to its end. */
import type { RedisHandle } from '../redis/connect.ts';
import type { Claimed } from './claimed.ts';
import type { Claims } from './claims.ts';
import { handle, type Ending, type Gate, type Log } from './handle.ts';
import type { Host } from './host.ts';
import type { HostGuard } from './host-guard.ts';
import { jobLog } from './job-log.ts';
import type { KeptJob } from './kept-job.ts';
import type { Metrics } from './metrics.ts';
import { parkIfPaused } from './parked.ts';
import type { runJob } from './run-job.ts';

export interface JobPath {
  readonly redis: RedisHandle;
  readonly claims: Pick<Claims, 'promote'>;
  readonly host: Host;
  readonly guard: HostGuard;
  /** Whether the image is as fresh as the job wants it. */
  readonly fresh: { readonly admit: Gate };
  readonly metrics: Pick<Metrics, 'count'> | undefined;
  readonly log: Log;
  /** Hears the run's id of a job that begins. */
  readonly onBegin?: ((runId: string) => void) | undefined;
  /** What the attempt itself is; a measurement puts nothing in its place. */
  readonly run?: typeof runJob;
}

/** Never rejects. */
export async function runClaimed(path: JobPath, job: KeptJob): Promise<void> {
  const { redis, claims, guard, metrics } = path;
  const { log, telling } = jobLog(path.log, job);
  const host = telling(path.host);
  const admit: Gate = async (claimed, request) => {
    if ((await parkIfPaused(redis, claims, claimed)) || !(await path.fresh.admit(claimed, request))) return false;
    job.takeTurn();
    job.begun();
    path.onBegin?.(job.runId);
    return true;
  };
  const run = async (claimed: Claimed): Promise<Ending> => {
    const ending = await handle(claimed, host, admit, job.signal, log, path.run);
    return job.passed ? { kind: 'other' } : ending; // the successor draws the conclusions
  };
  await guard.run(job, () => metrics?.count(job, run) ?? run(job));
}
