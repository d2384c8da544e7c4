/**
 * Fairness inside a queue: a job's priority is its virtual start time (start-time fair queueing), so that the jobs of
 * tenants take turns, however many one of them has waiting. BullMQ runs the smallest priority first.
 */
import type { RoutingKey } from '../protocol/routing.ts';
import type { RedisHandle } from './connect.ts';

/** BullMQ's own limit is 2,097,151. At it all are equal, and it is first come, first served. */
const latest = 2_000_000;

/**
 * KEYS: the queue's virtual times, its waiting, delayed and active jobs. ARGV: tenant, how many, latest, prefix of the
 * jobs. Returns the first start time: no earlier than that of the job begun last (a tenant saves nothing up), nor than
 * the tenant's own last. A queue begins anew when nothing waits, and nothing can come back with a number of before: it
 * would stand behind all that came later. What may come back at any time (a job that is paused, for one) must not let
 * the numbers run out: when half of them are used, it is moved to the new beginning.
 */
const startScript = `
if redis.call('ZCARD', KEYS[2]) == 0 then
  local used = tonumber(redis.call('HGET', KEYS[1], 'now') or 0)
  if redis.call('ZCARD', KEYS[3]) + redis.call('LLEN', KEYS[4]) == 0 then
    redis.call('DEL', KEYS[1])
  elseif used > ARGV[3] / 2 then
    for _, ids in ipairs({redis.call('ZRANGE', KEYS[3], 0, -1), redis.call('LRANGE', KEYS[4], 0, -1)}) do
      for _, id in ipairs(ids) do
        local own = tonumber(redis.call('HGET', ARGV[4] .. id, 'priority') or '')
        if own then redis.call('HSET', ARGV[4] .. id, 'priority', math.max(own - used, 1)) end
      end
    end
    redis.call('DEL', KEYS[1])
  end
end
local times = redis.call('HMGET', KEYS[1], 'now', 'of:' .. ARGV[1])
local start = math.max(tonumber(times[1] or 0), tonumber(times[2] or 0)) + 1
redis.call('HSET', KEYS[1], 'of:' .. ARGV[1], math.min(start + ARGV[2] - 1, ARGV[3]))
redis.call('EXPIRE', KEYS[1], 2592000)
return math.min(start, ARGV[3])`;

/** KEYS: the queue's virtual times. ARGV: the priority of a job. */
const advanceScript = `
if tonumber(redis.call('HGET', KEYS[1], 'now') or 0) < tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], 'now', ARGV[1]) end`;

/** @returns the priorities of so many new jobs of a tenant, in their order */
export async function fairPriorities(
  redis: RedisHandle,
  key: RoutingKey,
  tenant: string,
  count: number,
): Promise<number[]> {
  const queue = `${redis.keys.queues}:${key}`;
  const keys = [redis.keys.fair(key), `${queue}:prioritized`, `${queue}:delayed`, `${queue}:active`] as const;
  const start = Number(await redis.client.eval(startScript, 4, ...keys, tenant, count, latest, `${queue}:`));
  return Array.from({ length: count }, (_, index) => Math.min(start + index, latest));
}

/**
 * To be said of each job that begins. Not of those that are put off: were 40,000 claimed while their image is
 * refreshed, a tenant that comes then would stand behind all of them.
 */
export async function advanceTime(redis: RedisHandle, key: RoutingKey, priority: number): Promise<void> {
  await redis.client.eval(advanceScript, 1, redis.keys.fair(key), priority);
}
