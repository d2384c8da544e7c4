/** Which workers are running, or have been until lately, as far as their heartbeats tell. */
import type { Redis } from 'ioredis';
import { canSee, isAlive } from '../exec/process-identity.ts';
import { parsePresence, type Presence } from '../protocol/presence.ts';
import type { RedisKeys } from '../protocol/routing.ts';
import { redisTime } from '../redis/time.ts';

export interface KnownWorker extends Presence {
  /** When its last heartbeat came (ms since the epoch, by Redis's clock). */
  readonly heard: number;
  /** False for one that ended without a word, or is cut off. */
  readonly live: boolean;
}

/** Milliseconds for which the heartbeat of an earlier version counts, which does not say. */
const usualCounts = 30_000;

/** Workers whose heartbeat counts; those whose process can be seen from here only while it lives. */
export async function liveWorkers(redis: Redis, keys: RedisKeys): Promise<KnownWorker[]> {
  return (await knownWorkers(redis, keys, 0)).filter(({ live }) => live);
}

/** And those that fell silent in so many milliseconds. */
export async function knownWorkers(redis: Redis, keys: RedisKeys, silent: number): Promise<KnownWorker[]> {
  const now = await redisTime(redis);
  const members = await redis.zrangebyscore(keys.workers, now - silent, '+inf');
  if (members.length === 0) return [];
  const asked = redis
    .pipeline()
    .zmscore(keys.workers, ...members)
    .hmget(keys.workerDetails, ...members);
  const [until, details] = ((await asked.exec()) ?? []).map(([, answer]) => answer as (string | null)[]);
  return members.flatMap((_, index) => {
    const presence = parsePresence(details?.[index]);
    const counts = Number(until?.[index] ?? 0);
    if (presence === undefined || counts === 0) return []; // ended in this moment, or written by another program
    const live = counts >= now && (!canSee(presence) || isAlive(presence));
    return [{ ...presence, heard: counts - (presence.counts ?? usualCounts), live }];
  });
}
