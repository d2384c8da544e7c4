/** Handing requests in. An id comes from its content, so that sending it again while it waits or runs changes nothing. */
import { describeRequest, requestId, type JobRequest } from '../protocol/job-request.ts';
import { labelsOf } from '../protocol/label.ts';
import { redisTime } from '../redis/time.ts';
import { remembered, routingKeyOf, type RoutingKey } from '../protocol/routing.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { fairPriorities } from '../redis/fair.ts';
import { persist } from '../redis/persist.ts';
import { withQueue } from '../redis/with-queue.ts';
import { announceWork, knowQueue } from '../redis/ready.ts';
import { showRun } from './runs.ts';

export interface Enqueued {
  readonly runId: string;
  /** `new`: it was put into the queue; `already`: it waits or runs; `recorded`: its recorded result is reused. */
  readonly state: 'new' | 'already' | 'recorded';
}

export interface EnqueueOptions {
  /** Takes the recorded result where the same request has ended before. */
  readonly reuse?: boolean;
  /** For whom: the jobs of tenants take turns in a queue. Default: one for all who name none. */
  readonly tenant?: string;
  /** What it belongs to (protocol/label.ts). A run that is asked for again carries the labels of both. */
  readonly labels?: readonly string[];
  /** Milliseconds since the epoch, by Redis's clock, at which it is cancelled if it waits or runs. Of a new run only. */
  readonly deadline?: number;
}

/** As BullMQ takes it, in seconds. */
export const remember = remembered / 1000;

/** Requests that go to Redis together: it does nothing else meanwhile. */
const atOnce = 500;

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
export function enqueue(
  redis: RedisHandle,
  request: JobRequest,
  arch: string,
  options: EnqueueOptions = {},
): Promise<Enqueued> {
  const begun = new Set<string>();
  return persist(redis, () => enqueueOne(redis, request, arch, { ...options, begun }));
}

/** One call, over all its tries. */
interface Handing extends EnqueueOptions {
  /**
   * The runs that it has put, or wanted to put, into a queue when its connection broke. One of them may have ended before
   * the call is tried again, and is its run all the same: the job is not to be done twice.
   */
  readonly begun: Set<string>;
}

async function enqueueOne(redis: RedisHandle, request: JobRequest, arch: string, options: Handing): Promise<Enqueued> {
  const id = requestId(request);
  const seen = await redis.client.get(redis.keys.latestRun(id));
  if (seen !== null) {
    const runId = runIdOf(id, Number(seen));
    const { state } = await showRun(redis, runId);
    if (state === 'waiting' || state === 'active' || state === 'delayed') {
      await addLabels(redis, runId, options.labels);
      return { runId, state: 'already' };
    }
    if (options.begun.has(runId) && state !== 'absent') return { runId, state: 'new' };
    if (options.reuse === true && state === 'completed') return { runId, state: 'recorded' };
    if (state === 'absent') {
      await add(redis, routingKeyOf(request, arch), [{ request, runId }], options); // its producer died in between
      return { runId, state: 'new' };
    }
  }
  const next = String(Number(seen ?? 0) + 1);
  const answer = await redis.client.eval(advanceScript, 1, redis.keys.latestRun(id), seen ?? '', next);
  const [now, first] = answer as [string, number];
  const runId = runIdOf(id, Number(now));
  // whoever was first, the run is the same one, and adding it twice is harmless: the first may have died on the way
  await add(redis, routingKeyOf(request, arch), [{ request, runId }], options);
  return { runId, state: first === 1 ? 'new' : 'already' };
}

/** The latest run of a request; undefined when there was none. */
export async function latestRun(redis: RedisHandle, request: JobRequest): Promise<string | undefined> {
  const id = requestId(request);
  const seen = await redis.client.get(redis.keys.latestRun(id));
  return seen === null ? undefined : runIdOf(id, Number(seen));
}

/**
 * The same for many, in few round trips. What it returns is in the queues; were it cut off, handing in the same again
 * completes it.
 */
export async function enqueueAll(
  redis: RedisHandle,
  requests: readonly JobRequest[],
  arch: string,
  options: EnqueueOptions = {},
): Promise<Enqueued[]> {
  const done: Enqueued[] = [];
  const handing = { ...options, begun: new Set<string>() };
  for (let i = 0; i < requests.length; i += atOnce) {
    const some = requests.slice(i, i + atOnce);
    done.push(...(await persist(redis, () => enqueueSome(redis, some, arch, handing))));
  }
  return done;
}

async function enqueueSome(
  redis: RedisHandle,
  requests: readonly JobRequest[],
  arch: string,
  options: Handing,
): Promise<Enqueued[]> {
  const ids = requests.map(requestId);
  const asked = redis.client.pipeline();
  for (const id of ids) asked.set(redis.keys.latestRun(id), '1', 'NX');
  const answers = (await asked.exec()) ?? [];
  const isNew = (index: number): boolean => answers[index]?.[1] === 'OK';
  const byKey = new Map<RoutingKey, Run[]>();
  for (const [index, request] of requests.entries()) {
    if (!isNew(index)) continue;
    const key = routingKeyOf(request, arch);
    const runs = byKey.get(key) ?? [];
    byKey.set(key, runs);
    runs.push({ request, runId: runIdOf(ids[index] ?? '', 1) });
  }
  for (const [key, runs] of byKey) await add(redis, key, runs, options);
  const done: Enqueued[] = [];
  for (const [index, request] of requests.entries()) {
    const runId = runIdOf(ids[index] ?? '', 1);
    if (isNew(index)) done.push({ runId, state: 'new' });
    else done.push(await persist(redis, () => enqueueOne(redis, request, arch, options)));
  }
  return done;
}

interface Run {
  readonly request: JobRequest;
  readonly runId: string;
}

/** All of one queue. Doing it twice changes nothing. */
async function add(
  redis: RedisHandle,
  key: RoutingKey,
  runs: readonly Run[],
  { tenant = '', labels = [], deadline, begun }: Handing,
): Promise<void> {
  for (const { runId } of runs) begun.add(runId);
  const submitted = await redisTime(redis.client); // by an own clock that had jumped, all would be old
  const known = redis.client.pipeline();
  const more = {
    ...(tenant === '' ? {} : { tenant }),
    ...(labels.length === 0 ? {} : { labels: labels.join(' ') }),
    ...(deadline === undefined ? {} : { deadline }),
  };
  for (const { request, runId } of runs) {
    const what = describeRequest(request);
    const { kind, image } = request;
    const about = { queue: key, kind, image, what, submitted, ...more };
    known.hset(redis.keys.run(runId), about).zadd(redis.keys.runs, submitted, runId);
    for (const label of labels) known.zadd(redis.keys.label(label), submitted, runId);
    if (deadline !== undefined) known.zadd(redis.keys.deadlines, deadline, runId);
  }
  for (const label of labels) {
    known.zremrangebyscore(redis.keys.label(label), '-inf', submitted - remembered);
    known.pexpire(redis.keys.label(label), remembered);
  }
  failOn(await known.exec());
  await knowQueue(redis, key);
  const priorities = await fairPriorities(redis, key, tenant, runs.length);
  await withQueue(redis, key, (queue) =>
    queue.addBulk(
      runs.map(({ request, runId }, index) => ({
        name: request.kind,
        data: request,
        opts: {
          jobId: runId,
          priority: priorities[index] ?? 1,
        },
      })),
    ),
  );
  await announceWork(redis, key);
}

async function addLabels(redis: RedisHandle, runId: string, labels: readonly string[] = []): Promise<void> {
  if (labels.length === 0) return;
  const { client, keys } = redis;
  const now = await redisTime(client);
  const all = new Set([...labelsOf(await client.hget(keys.run(runId), 'labels')), ...labels]);
  const added = client.pipeline().hset(keys.run(runId), 'labels', [...all].join(' '));
  for (const label of labels) added.zadd(keys.label(label), now, runId).pexpire(keys.label(label), remembered);
  failOn(await added.exec());
}

/** A pipeline does not throw for what failed in it. */
function failOn(answers: readonly [Error | null, unknown][] | null): void {
  for (const [error] of answers ?? []) if (error !== null) throw error;
}

function runIdOf(id: string, run: number): string {
  return run === 1 ? id : `${id}-${run}`;
}
