/** The clock of the fleet: hosts' own clocks may differ, and jump. */
import type { Redis } from 'ioredis';

/** Milliseconds since the epoch, by Redis's clock. */
export async function redisTime(redis: Redis): Promise<number> {
  const [seconds, micros] = await redis.time();
  return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
}
