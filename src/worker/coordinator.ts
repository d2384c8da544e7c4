/**
 * What one worker does for the whole fleet, whichever holds the coordinator's key: finds queues whose work nobody told of,
 * gives back the jobs of workers that died or were cut off, and cancels what is overdue. Were there two for a moment, no
 * harm: each step is safe.
 */
import { within } from '../exec/patience.ts';
import { messageOf } from '../protocol/errors.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { elect, resign } from '../redis/elect.ts';
import { nudge } from '../redis/nudges.ts';
import { findReady, knownKeys } from '../redis/ready.ts';
import type { Claims } from './claims.ts';
import { cancelOverdue } from './deadlines.ts';
import type { Log } from './handle.ts';
import { fleetTimes, type CoordinatorTimes } from './fleet-times.ts';
import { LostClaims } from './lost-claims.ts';
import { forgetOld } from './forget.ts';

export interface CoordinatorOptions {
  readonly redis: RedisHandle;
  readonly incarnation: string;
  readonly claims: Pick<Claims, 'giveBackToken' | 'giveBackUnlocked'>;
  readonly log: Log;
  readonly times?: CoordinatorTimes;
}

/** Milliseconds for its end, which Redis may be away from: its office then expires by itself. */
const patience = 2_000;

/** Dispose stops it, and lets another worker take over at once. */
export function coordinate({
  redis,
  incarnation,
  claims,
  log,
  times = fleetTimes(),
}: CoordinatorOptions): AsyncDisposable {
  const lost = new LostClaims(redis, claims, times, log);
  const stop = new AbortController();
  let forgotten = -Infinity;
  let forgetting: Promise<void> | undefined;
  /** Beside the turns: it may be long, and whoever has died must not wait for it. */
  const forget = (): void => {
    if (forgetting !== undefined || performance.now() - forgotten < times.forgetEvery) return;
    forgotten = performance.now();
    forgetting = forgetOld(redis, undefined, stop.signal)
      .catch((error: unknown) => log(`cannot forget what is old: ${messageOf(error)}`))
      .finally(() => (forgetting = undefined));
  };
  const turn = async (): Promise<void> => {
    if (!(await elect(redis, redis.keys.coordinator, incarnation, times.ttl))) return lost.forget();
    forget();
    const keys = await knownKeys(redis);
    const steps = [
      async () => {
        for (const key of await findReady(redis, keys)) await nudge(redis, { enqueued: key });
      },
      () => lost.giveBack(keys),
      async () => {
        for (const id of await cancelOverdue(redis)) log(`${id}: its deadline has passed`);
      },
    ];
    // one that Redis refuses, or that meets what another program has left there, keeps no other from its work
    for (const step of steps) await step().catch(complain);
  };
  const complain = (error: unknown): void => log(`cannot look after the queues: ${messageOf(error)}`);
  let turning: Promise<void> = Promise.resolve();
  let busy = false;
  const timer = setInterval(() => {
    if (busy) return;
    busy = true;
    turning = turn()
      .catch(complain)
      .finally(() => (busy = false));
  }, times.every);
  const end = async (): Promise<void> => {
    await turning;
    await forgetting;
    await resign(redis, redis.keys.coordinator, incarnation);
  };
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      stop.abort();
      await within(end(), patience, () => new Error('late')).catch(() => {});
    },
  };
}
