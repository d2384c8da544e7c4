/** What is too old to be kept in Redis: runs that nobody will ask for, queues that nobody uses. */
import type { RedisHandle } from '../redis/connect.ts';
import { remembered } from '../protocol/routing.ts';
import { forgetEnded } from '../redis/ended.ts';
import { redisTime } from '../redis/time.ts';
import { forgetSilent } from './presence.ts';

/**
 * KEYS: known. ARGV: prefix of the queues, the time (ms) before which a queue's last enqueue must be, keys. A queue is
 * forgotten only when it is empty: what is put into it later is announced anew.
 */
const forgetQueuesScript = `
for i = 3, #ARGV do
  local queue = ARGV[1] .. ':' .. ARGV[i]
  local left = redis.call('LLEN', queue .. ':wait') + redis.call('ZCARD', queue .. ':prioritized')
    + redis.call('ZCARD', queue .. ':delayed') + redis.call('LLEN', queue .. ':active')
    + redis.call('LLEN', queue .. ':paused') + redis.call('ZCARD', queue .. ':repeat')
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if left == 0 and score and tonumber(score) < tonumber(ARGV[2]) then redis.call('ZREM', KEYS[1], ARGV[i]) end
end`;

/** KEYS: run, latest run of its request, runs. ARGV: run id, the run's number. */
const forgetRunScript = `
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[3], ARGV[1])
if redis.call('GET', KEYS[2]) == ARGV[2] then redis.call('DEL', KEYS[2]) end`;

const day = 86_400_000;

/** At most so many a call, so that Redis does other things meanwhile. */
const atOnce = 500;

export async function forgetOld(redis: RedisHandle, time?: number): Promise<void> {
  const now = time ?? (await redisTime(redis.client)); // with a clock that jumped ahead, everything would be old
  await forgetSilent(redis.client, redis.keys, 7 * day);
  await forgetQueues(redis, now - day);
  await forgetRuns(redis, now - remembered);
}

async function forgetQueues(redis: RedisHandle, before: number): Promise<void> {
  const { known, queues } = redis.keys;
  const keys = await redis.client.zrangebyscore(known, '-inf', before, 'LIMIT', 0, atOnce);
  if (keys.length > 0) await redis.client.eval(forgetQueuesScript, 1, known, queues, before, ...keys);
}

/** A run is forgotten when its job ended as long ago. */
async function forgetRuns(redis: RedisHandle, before: number): Promise<void> {
  const ids = await redis.client.zrangebyscore(redis.keys.runs, '-inf', before, 'LIMIT', 0, atOnce);
  for (const id of ids) {
    const queue = await redis.client.hget(redis.keys.run(id), 'queue');
    if (queue !== null && !(await forgetEnded(redis, queue, id, before))) continue;
    const [request = id, number = '1'] = id.split('-');
    const keys = [redis.keys.run(id), redis.keys.latestRun(request), redis.keys.runs] as const;
    await redis.client.eval(forgetRunScript, 3, ...keys, id, number);
    await redis.client.hdel(redis.keys.paused, `job:${id}`);
  }
}
