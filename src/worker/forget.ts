/** What is too old to be kept in Redis: runs that nobody will ask for, queues that nobody uses. */
import type { RedisHandle } from '../redis/connect.ts';
import { remembered } from '../protocol/routing.ts';
import { redisTime } from '../redis/time.ts';
import { forgetSilent } from './presence.ts';

/**
 * KEYS: known. ARGV: prefix of the queues, the time (ms) before which a queue's last enqueue must be, keys. A queue is
 * forgotten only when it is empty: what is put into it later is announced anew. Returns how many stay.
 */
const forgetQueuesScript = `
local stay = 0
for i = 3, #ARGV do
  local queue = ARGV[1] .. ':' .. ARGV[i]
  local left = redis.call('LLEN', queue .. ':wait') + redis.call('ZCARD', queue .. ':prioritized')
    + redis.call('ZCARD', queue .. ':delayed') + redis.call('LLEN', queue .. ':active')
    + redis.call('LLEN', queue .. ':paused') + redis.call('ZCARD', queue .. ':repeat')
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if score and left == 0 and tonumber(score) < tonumber(ARGV[2]) then redis.call('ZREM', KEYS[1], ARGV[i])
  elseif score then stay = stay + 1 end
end
return stay`;

/**
 * KEYS: run, runs, latest run of its request, paused. ARGV: run id, the run's number, the time (ms) before which its
 * job must have ended, prefix of the queues. Returns 1 if it stays: its job has not ended, or ended later. All at once:
 * whoever hands in the same meanwhile finds either all of it or nothing.
 */
const forgetRunScript = `
local name = redis.call('HGET', KEYS[1], 'queue')
if name then
  local queue = ARGV[4] .. ':' .. name .. ':'
  for _, ended in ipairs({queue .. 'completed', queue .. 'failed'}) do
    local at = redis.call('ZSCORE', ended, ARGV[1])
    if at and tonumber(at) < tonumber(ARGV[3]) then
      redis.call('ZREM', ended, ARGV[1])
      redis.call('DEL', queue .. ARGV[1])
    end
  end
  if redis.call('EXISTS', queue .. ARGV[1]) == 1 then return 1 end
end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('GET', KEYS[3]) == ARGV[2] then redis.call('DEL', KEYS[3]) end
redis.call('HDEL', KEYS[4], 'job:' .. ARGV[1])
return 0`;

const day = 86_400_000;

/** Members of a page: Redis does other things between two of them. */
const atOnce = 200;

/** Harmless when others do it at the same time. @param time ms since the epoch; default: Redis's now */
export async function forgetOld(redis: RedisHandle, time?: number, signal?: AbortSignal): Promise<void> {
  const now = time ?? (await redisTime(redis.client)); // with a clock that jumped ahead, everything would be old
  await forgetSilent(redis.client, redis.keys, 7 * day);
  await forgetQueues(redis, now - day, signal);
  await forgetRuns(redis, now - remembered, signal);
}

async function forgetQueues(redis: RedisHandle, before: number, signal?: AbortSignal): Promise<void> {
  const { known, queues } = redis.keys;
  const forget = async (keys: readonly string[]): Promise<number> =>
    Number(await redis.client.eval(forgetQueuesScript, 1, known, queues, before, ...keys));
  await inPages(redis, known, before, forget, signal);
}

/** A run is forgotten when its job ended as long ago. */
async function forgetRuns(redis: RedisHandle, before: number, signal?: AbortSignal): Promise<void> {
  const { keys } = redis;
  const forget = async (ids: readonly string[]): Promise<number> => {
    const asked = redis.client.pipeline();
    for (const id of ids) {
      const [request = id, number = '1'] = id.split('-');
      const names = [keys.run(id), keys.runs, keys.latestRun(request), keys.paused] as const;
      asked.eval(forgetRunScript, names.length, ...names, id, number, before, keys.queues);
    }
    let stay = 0;
    for (const [error, answer] of (await asked.exec()) ?? []) {
      if (error !== null) throw error;
      stay += Number(answer);
    }
    return stay;
  };
  await inPages(redis, keys.runs, before, forget, signal);
}

/**
 * The members of a sorted set that are old enough, a page at a time. Those that stay are stepped over, so that they
 * hide nobody. If others forget at the same time, some are stepped over that need not be: they are found the next time.
 * @param forget returns how many of these stay
 */
async function inPages(
  redis: RedisHandle,
  set: string,
  before: number,
  forget: (members: readonly string[]) => Promise<number>,
  signal?: AbortSignal,
): Promise<void> {
  for (let stay = 0; signal?.aborted !== true;) {
    const page = await redis.client.zrangebyscore(set, '-inf', before, 'LIMIT', stay, atOnce);
    if (page.length > 0) stay += await forget(page);
    if (page.length < atOnce) return;
  }
}
