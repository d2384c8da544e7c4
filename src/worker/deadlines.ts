/** The coordinator cancels runs whose time is up, whether they wait or run. */
import { deadlinePassed } from '../protocol/failure.ts';
import { cancelRuns } from '../redis/cancel.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { redisTime } from '../redis/time.ts';

/** Those that are left come with the next turn. */
const atOnce = 500;

/** @returns the ids of those that were cancelled */
export async function cancelOverdue(redis: RedisHandle): Promise<string[]> {
  const { client, keys } = redis;
  const now = await redisTime(client); // the coordinator's own clock may be anything
  const due = await client.zrangebyscore(keys.deadlines, '-inf', now, 'LIMIT', 0, atOnce);
  if (due.length === 0) return [];
  const cancelled = await cancelRuns(redis, due, deadlinePassed);
  await client.zrem(keys.deadlines, ...due); // after it: done twice is better than never
  return cancelled;
}
