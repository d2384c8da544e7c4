/**
 * How long a run that has ended is kept, by Redis's clock. BullMQ (6.7) removes at each end of a job what is too old by the
 * clock of whoever ended it: one host whose clock had jumped ahead took the fleet's results away, and one whose clock was
 * behind had its own taken. So BullMQ removes no run, and forget.ts in worker/ does.
 */
import type { Job } from 'bullmq';
import { isRunId, type RoutingKey } from '../protocol/routing.ts';
import type { RedisHandle } from './connect.ts';

/** To be said before a job is ended, whatever whoever put it there has set. */
export function keepWhenEnded(job: Job): void {
  if (isRunId(String(job.id))) job.opts = { ...job.opts, removeOnComplete: false, removeOnFail: false };
}

/** KEYS: completed, failed. ARGV: job. Their scores are times in ms. */
const noteScript = `
local time = redis.call('TIME')
for _, ended in ipairs(KEYS) do
  redis.call('ZADD', ended, 'XX', time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
end`;

/** To be said after it. */
export async function noteEnded(redis: RedisHandle, key: RoutingKey, id: string): Promise<void> {
  await redis.client.eval(noteScript, 2, ...endedSets(redis, key), id);
}

function endedSets({ keys }: RedisHandle, key: RoutingKey): [string, string] {
  return [`${keys.queues}:${key}:completed`, `${keys.queues}:${key}:failed`];
}
