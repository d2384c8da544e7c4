/**
 * What one worker does for the whole fleet, whichever holds the coordinator's key: finds queues whose work nobody told of,
 * gives back the jobs of workers that died or were cut off, and cancels what is overdue. Were there two for a moment, no
 * harm: each step is safe.
 */
import { messageOf } from '../protocol/errors.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { nudge } from '../redis/nudges.ts';
import { findReady, knownKeys } from '../redis/ready.ts';
import type { Claims } from './claims.ts';
import { cancelOverdue } from './deadlines.ts';
import type { Log } from './handle.ts';
import { fleetTimes, type CoordinatorTimes } from './fleet-times.ts';
import { LostClaims } from './lost-claims.ts';
import { forgetOld } from './forget.ts';

/** KEYS: coordinator. ARGV: incarnation, time to live. Returns 1 for the one that has it. */
const electScript = `
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`;

const resignScript = `
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end`;

export interface CoordinatorOptions {
  readonly redis: RedisHandle;
  readonly incarnation: string;
  readonly claims: Pick<Claims, 'giveBackToken' | 'giveBackUnlocked'>;
  readonly log: Log;
  readonly times?: CoordinatorTimes;
}

/** Dispose stops it, and lets another worker take over at once. */
export function coordinate({
  redis,
  incarnation,
  claims,
  log,
  times = fleetTimes(),
}: CoordinatorOptions): AsyncDisposable {
  const lost = new LostClaims(redis, claims, times, log);
  let forgotten = -Infinity;
  const turn = async (): Promise<void> => {
    const elected = await redis.client.eval(electScript, 1, redis.keys.coordinator, incarnation, times.ttl);
    if (elected !== 1) return lost.forget();
    const keys = await knownKeys(redis);
    for (const key of await findReady(redis, keys)) await nudge(redis, { enqueued: key });
    await lost.giveBack(keys);
    for (const id of await cancelOverdue(redis)) log(`${id}: its deadline has passed`);
    if (performance.now() - forgotten < times.forgetEvery) return;
    forgotten = performance.now();
    await forgetOld(redis);
  };
  let turning: Promise<void> = Promise.resolve();
  let busy = false;
  const timer = setInterval(() => {
    if (busy) return;
    busy = true;
    turning = turn()
      .catch((error: unknown) => log(`cannot look after the queues: ${messageOf(error)}`))
      .finally(() => (busy = false));
  }, times.every);
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      await turning;
      await redis.client.eval(resignScript, 1, redis.keys.coordinator, incarnation).catch(() => {});
    },
  };
}
