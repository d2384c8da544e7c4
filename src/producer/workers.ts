/** Which workers are running, as far as their heartbeats tell. */
import type { Redis } from 'ioredis';
import { identityOf, isAlive } from '../exec/process-identity.ts';
import { presenceSchema, type Presence } from '../protocol/presence.ts';
import type { RedisKeys } from '../protocol/routing.ts';

/** Workers whose heartbeat counts; those of this host only while their process lives. */
export async function liveWorkers(redis: Redis, keys: RedisKeys): Promise<Presence[]> {
  const [seconds] = await redis.time();
  const members = await redis.zrangebyscore(keys.workers, Number(seconds) * 1000, '+inf');
  if (members.length === 0) return [];
  const here = identityOf()?.bootId;
  const details = await redis.hmget(keys.workerDetails, ...members);
  return details.flatMap((text) => parse(text)).filter((worker) => worker.bootId !== here || isAlive(worker));
}

function parse(text: string | null): Presence[] {
  try {
    return [presenceSchema.parse(JSON.parse(text ?? ''))];
  } catch {
    return []; // written by another version: as good as absent
  }
}
