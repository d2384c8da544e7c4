/** Schedules of images: one BullMQ job scheduler each, in the queue of its updates. What it puts there is no run yet. */
import type { Schedule } from '../config/cron.ts';
import { messageOf, UsageError } from '../protocol/errors.ts';
import { refreshRequest, updateRequestSchema, type UpdateStrategy } from '../protocol/job-request.ts';
import { routingKeyOf } from '../protocol/routing.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { redisTime } from '../redis/time.ts';
import { withQueue } from '../redis/with-queue.ts';
import { knowQueue } from '../redis/ready.ts';
import { remember } from './enqueue.ts';

export interface ImageSchedule extends Schedule {
  readonly image: string;
  readonly strategy: UpdateStrategy;
  /** Who made it: a user, the configuration of a host. */
  readonly by: string;
}

export interface KnownSchedule extends ImageSchedule {
  /** When it asks for a refresh next, or should have (ms since the epoch). */
  readonly next: number;
}

/** The scheduler's id; the queue is the image's own. */
const id = 'schedule';

/**
 * Makes or changes it. One that is like it already is left alone: making it again would forget a night that was missed. But
 * one whose chain is broken, or that a host whose clock was ahead has put far off, is made again.
 * @param arch Debian's name of the image's architecture
 * @throws {UsageError} a pattern that never comes true
 */
export async function setSchedule(redis: RedisHandle, wanted: ImageSchedule, arch: string): Promise<KnownSchedule> {
  const { image, cron, timeZone, strategy, by } = wanted;
  const known = await readSchedule(redis, image);
  const same = known?.cron === cron && known.timeZone === timeZone && known.strategy === strategy && known.by === by;
  const before = await redis.client.hget(redis.keys.schedules, image);
  if (same && before !== null && (await isAlive(redis, before, known))) return known;
  await requireNext(wanted);
  const request = refreshRequest(image, strategy);
  const key = routingKeyOf(request, arch);
  if (before !== null && (same || before !== key)) await removeSchedule(redis, image); // broken, or another architecture's
  await redis.client.hset(redis.keys.schedules, image, key); // first: one that is not listed could never be removed
  await knowQueue(redis, key);
  await withQueue(redis, key, async (queue) => {
    // before all others: it is no run, and only makes one
    const opts = { priority: 1, removeOnComplete: true, removeOnFail: { age: remember } };
    await queue.upsertJobScheduler(id, { pattern: cron, tz: timeZone }, { name: by, data: request, opts });
  });
  const made = await readSchedule(redis, image);
  if (made === undefined) throw never(cron, 'no such day');
  return made;
}

export async function readSchedule(redis: RedisHandle, image: string): Promise<KnownSchedule | undefined> {
  const key = await redis.client.hget(redis.keys.schedules, image);
  if (key === null) return undefined;
  const found = await withQueue(redis, key, (queue) => queue.getJobScheduler(id));
  const request = updateRequestSchema.safeParse(found?.template?.data);
  if (found?.pattern === undefined || !request.success) return undefined;
  const { pattern: cron, tz: timeZone = 'UTC', name: by, next = 0 } = found;
  return { image, cron, timeZone, strategy: request.data.strategy, by, next };
}

/** Sorted by image. */
export async function listSchedules(redis: RedisHandle): Promise<KnownSchedule[]> {
  const images = (await redis.client.hkeys(redis.keys.schedules)).toSorted();
  const all = await Promise.all(images.map((image) => readSchedule(redis, image)));
  return all.filter((one) => one !== undefined);
}

/** @returns whether there was one */
export async function removeSchedule(redis: RedisHandle, image: string): Promise<boolean> {
  const key = await redis.client.hget(redis.keys.schedules, image);
  if (key === null) return false;
  const removed = await withQueue(redis, key, (queue) => queue.removeJobScheduler(id));
  await redis.client.hdel(redis.keys.schedules, image);
  return removed;
}

/** Whether it will come: its next token is there (BullMQ makes it when it hands out the last one), and is not too late. */
async function isAlive(redis: RedisHandle, key: string, { next, ...schedule }: KnownSchedule): Promise<boolean> {
  const state = await withQueue(redis, key, (queue) => queue.getJobState(`repeat:${id}:${next}`));
  const due = await nextAfter(await redisTime(redis.client), schedule);
  return !['unknown', 'completed', 'failed'].includes(state) && due !== undefined && next <= due;
}

/** Asked apart from BullMQ's making it, whose other errors are Redis's. @throws {UsageError} */
async function requireNext(schedule: Schedule): Promise<void> {
  let next: number | undefined;
  try {
    next = await nextAfter(Date.now(), schedule);
  } catch (error) {
    throw never(schedule.cron, messageOf(error));
  }
  if (next === undefined) throw never(schedule.cron, 'no such day');
}

/** @param now ms since the epoch, as what it returns */
async function nextAfter(now: number, { cron, timeZone }: Schedule): Promise<number | undefined> {
  const { getNextMillis } = await import('../redis/bullmq.ts');
  return getNextMillis(now, { pattern: cron, tz: timeZone });
}

function never(cron: string, why: string): UsageError {
  return new UsageError(cron, `"${cron}" cannot be a schedule: ${why}`);
}
