/** Which workers are running, as far as their heartbeats tell. */
import type { Redis } from 'ioredis';
import { identityOf, isAlive } from '../exec/process-identity.ts';
import { parsePresence, type Presence } from '../protocol/presence.ts';
import type { RedisKeys } from '../protocol/routing.ts';
import { redisTime } from '../redis/time.ts';

/** Workers whose heartbeat counts; those of this host only while their process lives. */
export async function liveWorkers(redis: Redis, keys: RedisKeys): Promise<Presence[]> {
  const members = await redis.zrangebyscore(keys.workers, await redisTime(redis), '+inf');
  if (members.length === 0) return [];
  const here = identityOf()?.bootId;
  const details = await redis.hmget(keys.workerDetails, ...members);
  const workers = details.map(parsePresence).filter((worker) => worker !== undefined);
  return workers.filter((worker) => worker.bootId !== here || isAlive(worker));
}
