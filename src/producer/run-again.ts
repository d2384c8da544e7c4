/** Handing in again what runs were asked to do, for the same tenant and under the same labels. */
import { UsageError } from '../protocol/errors.ts';
import { labelsOf } from '../protocol/label.ts';
import { parseRoutingKey } from '../protocol/routing.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { redisTime } from '../redis/time.ts';
import { enqueue } from './enqueue.ts';
import { cancelRun, requestOf, waitFor } from './runs.ts';

/**
 * One that still runs is stopped first, and its end waited for: as long as it runs, the same request is the same run.
 * @param stop why one that runs is stopped; undefined for one that has ended
 * @param arch where the run's queue does not tell
 * @returns the id of the new run; undefined when nobody knows any more what it was asked to do
 */
export async function runAgain(
  redis: RedisHandle,
  id: string,
  stop: string | undefined,
  arch: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  const request = await requestOf(redis, id);
  if (request === undefined) return undefined;
  const [queue, tenant, labels, deadline] = await redis.client.hmget(
    redis.keys.run(id),
    ...['queue', 'tenant', 'labels', 'deadline'],
  );
  if (stop !== undefined) await stopRun(redis, id, stop, signal);
  const now = await redisTime(redis.client); // which a deadline is by: by an own clock that is ahead none would be left
  const left = Number(deadline ?? 0) > now ? { deadline: Number(deadline) } : {};
  const options = { ...(tenant ? { tenant } : {}), labels: labelsOf(labels), ...left };
  const { runId } = await enqueue(redis, request, parseRoutingKey(queue ?? '')?.arch ?? arch, options);
  return runId;
}

async function stopRun(redis: RedisHandle, id: string, reason: string, signal: AbortSignal): Promise<void> {
  try {
    await cancelRun(redis, id, reason);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return; // it has ended meanwhile
  }
  await waitFor(redis, id, signal);
}
