/** The worker's heartbeat: a member of the sorted set of workers, scored by the time until which it counts. */
import type { Redis } from 'ioredis';
import { presenceTtl, type Presence } from '../protocol/presence.ts';
import type { RedisKeys } from '../protocol/routing.ts';

export interface Announced extends AsyncDisposable {
  /** Says it again now, with the images that the host has by now. */
  update(images: readonly string[]): Promise<void>;
}

export async function announce(redis: Redis, keys: RedisKeys, presence: Presence): Promise<Announced> {
  const member = `${presence.host}/${presence.pid}-${presence.started}`;
  let current = presence;
  const beat = async (): Promise<void> => {
    const [seconds] = await redis.time();
    const until = Number(seconds) * 1000 + presenceTtl;
    await redis
      .multi()
      .zadd(keys.workers, until, member)
      .hset(keys.workerDetails, member, JSON.stringify(current))
      .exec();
  };
  await beat();
  // a missed beat is not an error: the next one, or the end of the worker, tells
  const timer = setInterval(() => void beat().catch(() => {}), presenceTtl / 3);
  return {
    async update(images) {
      current = { ...current, images: [...images] };
      await beat();
    },
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      await redis.multi().zrem(keys.workers, member).hdel(keys.workerDetails, member).exec();
    },
  };
}
