/** Handing a request in. Its id comes from its content, so that sending it again while it waits or runs changes nothing. */
import { Queue } from 'bullmq';
import { describeRequest, requestId, type JobRequest } from '../protocol/job-request.ts';
import { routingKeyOf } from '../protocol/routing.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { nudge } from '../redis/nudges.ts';
import { showRun } from './runs.ts';

export interface Enqueued {
  readonly runId: string;
  /** `new`: it was put into the queue; `already`: it waits or runs; `recorded`: its recorded result is reused. */
  readonly state: 'new' | 'already' | 'recorded';
}

/** Attempts that infrastructure failures may cost, and milliseconds between them. */
const attempts = 3;
export const retryDelay = 2_000;

/** How long a finished run is remembered, in seconds. */
const remember = 30 * 86_400;

/** Every job has a priority: BullMQ lets those without one overtake all others. */
const priority = 1000;

/**
 * KEYS: latest run of the request. ARGV: the number that was seen (or ''), the next. Returns the number that holds
 * afterwards, and whether it was this call that advanced it.
 */
const advanceScript = `
local seen = redis.call('GET', KEYS[1]) or ''
if seen ~= ARGV[1] then return {seen, 0} end
redis.call('SET', KEYS[1], ARGV[2])
return {ARGV[2], 1}`;

/** @param arch the Debian architecture that the job is for */
export async function enqueue(
  redis: RedisHandle,
  request: JobRequest,
  arch: string,
  options: { readonly reuse?: boolean } = {},
): Promise<Enqueued> {
  const id = requestId(request);
  const seen = await redis.client.get(redis.keys.latestRun(id));
  if (seen !== null) {
    const runId = runIdOf(id, Number(seen));
    const { state } = await showRun(redis, runId);
    if (state === 'waiting' || state === 'active' || state === 'delayed') return { runId, state: 'already' };
    if (options.reuse === true && state === 'completed') return { runId, state: 'recorded' };
    if (state === 'absent') return add(redis, request, arch, id, Number(seen)); // its producer died in between
  }
  const next = String(Number(seen ?? 0) + 1);
  const answer = await redis.client.eval(advanceScript, 1, redis.keys.latestRun(id), seen ?? '', next);
  const [now, first] = answer as [string, number];
  // whoever was first, the run is the same one, and adding it twice is harmless: the first may have died on the way
  const added = await add(redis, request, arch, id, Number(now));
  return first === 1 ? added : { ...added, state: 'already' };
}

async function add(redis: RedisHandle, request: JobRequest, arch: string, id: string, run: number): Promise<Enqueued> {
  const key = routingKeyOf(request, arch);
  const runId = runIdOf(id, run);
  const submitted = Date.now();
  const what = describeRequest(request);
  await redis.client
    .multi()
    .hset(redis.keys.run(runId), { queue: key, kind: request.kind, image: request.image, what, submitted })
    .zadd(redis.keys.runs, submitted, runId)
    .exec();
  const queue = new Queue(key, { connection: redis.client, prefix: redis.keys.queues });
  try {
    await queue.add(request.kind, request, {
      jobId: runId,
      priority,
      attempts,
      backoff: { type: 'fixed', delay: retryDelay },
      removeOnComplete: { age: remember },
      removeOnFail: { age: remember },
    });
  } finally {
    await queue.close();
  }
  await nudge(redis, { enqueued: key });
  return { runId, state: 'new' };
}

function runIdOf(id: string, run: number): string {
  return run === 1 ? id : `${id}-${run}`;
}
