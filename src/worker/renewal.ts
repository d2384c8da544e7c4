/**
 * Turns everything that must stop a job into its one signal: a lost claim, a cancel, a shutdown. Another thread renews the
 * claim (renewals.ts). While Redis is away nothing is known to be lost, and the job goes on: if Redis itself was away, the
 * claim is had again (lock.ts); if only we were cut off, another host may run the job by now, but one result counts. The
 * deadline on the local clock, counted from the last successful renewal, bounds what may be spent in vain.
 */
import { Interruption, LeaseLost } from '../protocol/errors.ts';
import type { RedisHandle } from '../redis/connect.ts';
import type { Nudges } from '../redis/nudges.ts';
import { lockDuration } from './lock.ts';
import { monotonic } from './monotonic.ts';
import type { ClaimHeld, Pace, Renewals } from './renewals.ts';

export interface Renewal extends Disposable {
  /** Its reason is an Interruption or LeaseLost. */
  readonly signal: AbortSignal;
}

export interface RenewalTimes extends Pace {
  /** Milliseconds after the last successful one at which the job must stop. */
  readonly deadline: number;
}

const usual: RenewalTimes = { every: 30_000, lock: lockDuration, deadline: 3 * 3_600_000 };

export interface RenewalParts {
  readonly redis: Pick<RedisHandle, 'client' | 'keys'>;
  readonly nudges: Pick<Nudges, 'listen'>;
  readonly renewals: Pick<Renewals, 'hold'>;
}

/** @param shutdown gives the job back when it fires */
export function keepRenewed(
  claimed: ClaimHeld,
  { redis, nudges, renewals }: RenewalParts,
  shutdown: AbortSignal,
  times: RenewalTimes = usual,
): Renewal {
  const { runId } = claimed;
  const stop = new AbortController();
  const look = async (): Promise<void> => {
    const reason = await redis.client.get(redis.keys.cancel(runId));
    if (reason !== null) stop.abort(new Interruption('cancelled', reason));
  };
  const held = renewals.hold(claimed, times, () => stop.abort(new LeaseLost(`${runId}: the claim was lost`)));
  const looks = setInterval(() => attempt(look), times.every);
  const watch = setInterval(
    () => {
      if (monotonic() - held.renewed() < times.deadline) return;
      stop.abort(new LeaseLost(`${runId}: not renewed for ${Math.round(times.deadline / 1000)} s`));
    },
    Math.min(1000, times.every),
  );
  const silence = nudges.listen((nudge) => {
    if ('cancel' in nudge && nudge.cancel === runId) attempt(look);
  });
  attempt(look);
  return {
    signal: AbortSignal.any([stop.signal, shutdown]),
    [Symbol.dispose]() {
      held[Symbol.dispose]();
      clearInterval(looks);
      clearInterval(watch);
      silence();
    },
  };
}

/** Failing means that Redis is away: the deadline tells. */
function attempt(action: () => Promise<void>): void {
  void action().catch(() => {});
}
