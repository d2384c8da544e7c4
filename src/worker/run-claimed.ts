/** All that a worker does with a claimed job, from the claim to its end. */
import type { RedisHandle } from '../redis/connect.ts';
import type { Nudges } from '../redis/nudges.ts';
import type { Claimed } from './claimed.ts';
import type { Claims } from './claims.ts';
import { handle, type Ending, type Gate, type Log } from './handle.ts';
import type { Host } from './host.ts';
import type { HostGuard } from './host-guard.ts';
import { jobLog } from './job-log.ts';
import type { Metrics } from './metrics.ts';
import { parkIfPaused } from './parked.ts';
import { keepRenewed } from './renewal.ts';
import type { runJob } from './run-job.ts';

export interface JobPath {
  readonly redis: RedisHandle;
  readonly claims: Pick<Claims, 'promote'>;
  readonly nudges: Nudges;
  readonly host: Host;
  readonly guard: HostGuard;
  /** Whether the image is as fresh as the job wants it. */
  readonly fresh: { readonly admit: Gate };
  readonly metrics: Pick<Metrics, 'count'> | undefined;
  readonly log: Log;
  /** Gives the job back when it fires. */
  readonly shutdown: AbortSignal;
  /** What the attempt itself is; a measurement puts nothing in its place. */
  readonly run?: typeof runJob;
}

/** Never rejects. */
export async function runClaimed(path: JobPath, claimed: Claimed): Promise<void> {
  const { redis, claims, nudges, guard, metrics } = path;
  using renewal = keepRenewed(claimed, redis, nudges, path.shutdown);
  const { log, telling } = jobLog(path.log, claimed);
  const host = telling(path.host);
  const admit: Gate = async (job, request) =>
    !(await parkIfPaused(redis, claims, job)) && path.fresh.admit(job, request);
  const run = (job: Claimed): Promise<Ending> => handle(job, host, admit, renewal.signal, log, path.run);
  await guard.run(claimed, () => metrics?.count(claimed, run) ?? run(claimed));
}
