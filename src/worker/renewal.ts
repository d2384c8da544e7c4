/**
 * Keeps a claim alive while its job runs, and turns everything that must stop the job into its one signal: a lost claim, a
 * cancel, a shutdown. While Redis is away nothing is known to be lost, and the job goes on: if Redis itself was away, the
 * claim is had again (lock.ts); if only we were cut off, another host may run the job by now, but one result counts. The
 * deadline on the local clock, counted from the last successful renewal, bounds what may be spent in vain.
 */
import { Interruption, LeaseLost } from '../protocol/errors.ts';
import type { RedisHandle } from '../redis/connect.ts';
import type { Nudges } from '../redis/nudges.ts';
import type { Claimed } from './claimed.ts';

export interface Renewal extends Disposable {
  /** Its reason is an Interruption or LeaseLost. */
  readonly signal: AbortSignal;
}

export interface RenewalTimes {
  /** Milliseconds between renewals. */
  readonly every: number;
  /** Milliseconds after the last successful one at which the job must stop. */
  readonly deadline: number;
}

const usual: RenewalTimes = { every: 30_000, deadline: 3 * 3_600_000 };

/** @param shutdown gives the job back when it fires */
export function keepRenewed(
  claimed: Pick<Claimed, 'runId' | 'renew'>,
  redis: RedisHandle,
  nudges: Pick<Nudges, 'listen'>,
  shutdown: AbortSignal,
  times: RenewalTimes = usual,
): Renewal {
  const stop = new AbortController();
  let lastSuccess = performance.now();
  const look = async (): Promise<void> => {
    const reason = await redis.client.get(redis.keys.cancel(claimed.runId));
    if (reason !== null) stop.abort(new Interruption('cancelled', reason));
  };
  const renew = async (): Promise<void> => {
    const began = performance.now();
    if (!(await claimed.renew())) stop.abort(new LeaseLost(`${claimed.runId}: the claim was lost`));
    lastSuccess = began;
    await look();
  };
  const renewals = setInterval(() => attempt(renew), times.every);
  const watch = setInterval(
    () => {
      if (performance.now() - lastSuccess < times.deadline) return;
      stop.abort(new LeaseLost(`${claimed.runId}: not renewed for ${Math.round(times.deadline / 1000)} s`));
    },
    Math.min(1000, times.every),
  );
  const silence = nudges.listen((nudge) => {
    if ('cancel' in nudge && nudge.cancel === claimed.runId) attempt(look);
  });
  attempt(look);
  return {
    signal: AbortSignal.any([stop.signal, shutdown]),
    [Symbol.dispose]() {
      clearInterval(renewals);
      clearInterval(watch);
      silence();
    },
  };
}

/** Failing means that Redis is away: the deadline tells. */
function attempt(action: () => Promise<void>): void {
  void action().catch(() => {});
}
