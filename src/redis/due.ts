/**
 * When a job that was put off is due, by the one clock that all have in common, Redis's. BullMQ (6.7) takes the claimer's own
 * for both: the time at which a job is due, and whether that has come. A host whose clock had jumped ahead for a day would
 * put its jobs off for a day; one whose clock is behind would never find any due (ready.ts sees to that). One that is ahead
 * when it claims takes a job early, and no more.
 */
import type { RoutingKey } from '../protocol/routing.ts';
import type { RedisHandle } from './connect.ts';
import { insist } from './persist.ts';

/** KEYS: the delayed jobs of a queue; a score is a time in ms times 4096. ARGV: job, milliseconds from now. */
const dueScript = `
local time = redis.call('TIME')
local due = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2]
redis.call('ZADD', KEYS[1], 'XX', due * 4096, ARGV[1])`;

/** To be said after BullMQ has put it off; one that somebody has claimed meanwhile is left alone. @param delay milliseconds */
export async function setDue(redis: RedisHandle, key: RoutingKey, id: string, delay: number): Promise<void> {
  await insist(redis, () => redis.client.eval(dueScript, 1, `${redis.keys.queues}:${key}:delayed`, id, delay));
}
