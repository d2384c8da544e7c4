/**
 * Which queues have something to claim: one sorted set, so that an idle host asks one question instead of one a queue.
 * Whoever puts something into a queue adds its key; whoever finds the queue empty takes the key out, if it is empty still.
 * A key that was not added (its producer died in that moment, a delay has run out) is added by the coordinator's sweep.
 */
import type { RoutingKey } from '../protocol/routing.ts';
import type { RedisHandle } from './connect.ts';
import { nudge } from './nudges.ts';

/**
 * Whether a queue of BullMQ's (6.7) has a job to claim now: waiting, or with a delay that has run out. A delayed job's
 * score is its time in ms times 4096. Whoever claims looks at its own clock (due.ts): of those that are due the score is
 * lowered, in the same order, to a time that is past by any clock. Not of what stands for a schedule, which BullMQ calls
 * repeat:… : schedules are by the hosts' clocks and time zones.
 */
const hasWork = `
local function hasWork(queue, now)
  if redis.call('HEXISTS', queue .. ':meta', 'paused') == 1 then return false end
  local due = redis.call('ZRANGEBYSCORE', queue .. ':delayed', 1e14, (now + 1) * 4096 - 1, 'WITHSCORES', 'LIMIT', 0, 100)
  for i = 1, #due, 2 do
    if string.sub(due[i], 1, 7) ~= 'repeat:' then
      redis.call('ZADD', queue .. ':delayed', 'XX', due[i + 1] / 4096, due[i])
    end
  end
  if redis.call('LLEN', queue .. ':wait') > 0 or redis.call('ZCARD', queue .. ':prioritized') > 0 then return true end
  return #redis.call('ZRANGEBYSCORE', queue .. ':delayed', 0, (now + 1) * 4096 - 1, 'LIMIT', 0, 1) > 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)`;

/** KEYS: ready. ARGV: prefix of the queues, key. */
const settleScript = `${hasWork}
if not hasWork(ARGV[1] .. ':' .. ARGV[2], now) then redis.call('ZREM', KEYS[1], ARGV[2]) end`;

/** KEYS: ready. ARGV: prefix of the queues, keys. Returns the keys that were added. */
const findScript = `${hasWork}
local added = {}
for i = 2, #ARGV do
  if hasWork(ARGV[1] .. ':' .. ARGV[i], now) and redis.call('ZADD', KEYS[1], 'NX', now, ARGV[i]) == 1 then
    added[#added + 1] = ARGV[i]
  end
end
return added`;

/** KEYS: sorted set. ARGV: member, `NX` to leave one that is there, else `CH`. By Redis's clock: the hosts' own may differ, and jump. */
const addNowScript = `
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], ARGV[2], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])`;

/** Keys a call of the script: Redis does nothing else meanwhile. */
const atOnce = 500;

/** To be said before something is put into a queue: from then on the coordinator looks after it. */
export async function knowQueue(redis: RedisHandle, key: RoutingKey): Promise<void> {
  await redis.client.eval(addNowScript, 1, redis.keys.known, key, 'CH');
}

/** To be said after it: the hosts that wait for work hear of it. */
export async function announceWork(redis: RedisHandle, key: RoutingKey): Promise<void> {
  await redis.client.eval(addNowScript, 1, redis.keys.ready, key, 'NX');
  await nudge(redis, { enqueued: key });
}

/** Those that became ready first come first. */
export function readyKeys(redis: RedisHandle): Promise<RoutingKey[]> {
  return redis.client.zrangebyscore(redis.keys.ready, '-inf', '+inf');
}

/** After a claim found nothing: the key is taken out, unless something has come meanwhile. */
export async function settleReady(redis: RedisHandle, key: RoutingKey): Promise<void> {
  await redis.client.eval(settleScript, 1, redis.keys.ready, redis.keys.queues, key);
}

/** Every queue that has had a job of late. */
export function knownKeys(redis: RedisHandle): Promise<RoutingKey[]> {
  return redis.client.zrangebyscore(redis.keys.known, '-inf', '+inf');
}

/** Looks into these queues. @returns those that have work, and were not known to */
export async function findReady(redis: RedisHandle, keys: readonly RoutingKey[]): Promise<RoutingKey[]> {
  const found: RoutingKey[] = [];
  for (let i = 0; i < keys.length; i += atOnce) {
    const some = keys.slice(i, i + atOnce);
    found.push(...((await redis.client.eval(findScript, 1, redis.keys.ready, redis.keys.queues, ...some)) as string[]));
  }
  return found;
}
