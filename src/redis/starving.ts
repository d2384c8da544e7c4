/** What hosts ask and tell of jobs that find no room: which is first in its queue, and who keeps room for it. */
import type { RoutingKey } from '../protocol/routing.ts';
import type { RedisHandle } from './connect.ts';

/** A queue, and the job that was its first one when that was asked before. */
export interface AskedFirst {
  readonly key: RoutingKey;
  readonly job?: string | undefined;
}

/**
 * ARGV: prefix of the queues, then key and job (or '') in turn. Returns for each the job if it can be claimed still, else
 * the one that is claimed next, else ''. Where BullMQ (6.7) keeps them: `wait` is taken from its end, then the lowest of
 * `prioritized`; a delayed job's score is its time in ms times 4096, and whoever claims puts it with the others when that
 * has come.
 */
const firstScript = `
local time = redis.call('TIME')
local due = (time[1] * 1000 + math.floor(time[2] / 1000) + 1) * 4096 - 1
local function waits(queue, job)
  if redis.call('ZSCORE', queue .. ':prioritized', job) or redis.call('LPOS', queue .. ':wait', job) then return true end
  local score = redis.call('ZSCORE', queue .. ':delayed', job)
  return score and tonumber(score) <= due
end
local function first(queue)
  return redis.call('LINDEX', queue .. ':wait', -1)
    or redis.call('ZRANGE', queue .. ':prioritized', 0, 0)[1]
    or redis.call('ZRANGEBYSCORE', queue .. ':delayed', 0, due, 'LIMIT', 0, 1)[1]
    or ''
end
local found = {}
for i = 2, #ARGV, 2 do
  local queue, job = ARGV[1] .. ':' .. ARGV[i], ARGV[i + 1]
  if redis.call('HEXISTS', queue .. ':meta', 'paused') == 1 then job = ''
  elseif job == '' or not waits(queue, job) then job = first(queue) end
  found[#found + 1] = job
end
return found`;

/** KEYS: rooms. ARGV: incarnation, ms. Takes the first that nobody else has; returns its number, from 1, or 0. */
const keepScript = `
for i, room in ipairs(KEYS) do
  local owner = redis.call('GET', room)
  if not owner or owner == ARGV[1] then
    redis.call('SET', room, ARGV[1], 'PX', ARGV[2])
    return i
  end
end
return 0`;

/** Queues a call of a script: Redis does nothing else meanwhile. */
const atOnce = 500;

/** The job of each queue that has waited longest for its turn; none for a queue in which nothing can be claimed. */
export async function firstJobs(
  redis: RedisHandle,
  asked: readonly AskedFirst[],
): Promise<ReadonlyMap<RoutingKey, string>> {
  const found = new Map<RoutingKey, string>();
  for (let i = 0; i < asked.length; i += atOnce) {
    const some = asked.slice(i, i + atOnce);
    const words = some.flatMap(({ key, job = '' }) => [key, job]);
    const jobs = (await redis.client.eval(firstScript, 0, redis.keys.queues, ...words)) as string[];
    for (const [index, { key }] of some.entries()) if (jobs[index]) found.set(key, jobs[index]);
  }
  return found;
}

/**
 * One host at a time keeps its room for a queue: if all that are full did, a fleet would stand idle for one large job.
 * @param keys the most urgent first @param ttl milliseconds until another may, unless it is said again
 * @returns the queue for which the host may
 */
export async function keepRoomFor(
  redis: RedisHandle,
  keys: readonly RoutingKey[],
  incarnation: string,
  ttl: number,
): Promise<RoutingKey | undefined> {
  const some = keys.slice(0, atOnce);
  if (some.length === 0) return undefined;
  const rooms = some.map(redis.keys.room);
  const number = Number(await redis.client.eval(keepScript, rooms.length, ...rooms, incarnation, ttl));
  return some[number - 1];
}
