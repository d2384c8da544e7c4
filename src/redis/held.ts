/** Which jobs are claimed, and with what token: who has claimed them can be told from its beginning. */
import type { RoutingKey } from '../protocol/routing.ts';
import type { RedisHandle } from './connect.ts';

export interface Held {
  readonly id: string;
  /** Undefined where the lock has run out. */
  readonly token: string | undefined;
}

/** The claimed jobs of a queue. */
export async function heldJobs(redis: RedisHandle, key: RoutingKey): Promise<Held[]> {
  const queue = `${redis.keys.queues}:${key}`;
  const active = await redis.client.lrange(`${queue}:active`, 0, -1);
  if (active.length === 0) return [];
  const locks = await redis.client.mget(active.map((id) => `${queue}:${id}:lock`));
  return active.map((id, index) => ({ id, token: locks[index] ?? undefined }));
}

/** Which of these queues have claimed jobs. */
export async function busyKeys(redis: RedisHandle, keys: readonly RoutingKey[]): Promise<RoutingKey[]> {
  if (keys.length === 0) return [];
  const asked = redis.client.pipeline();
  for (const key of keys) asked.llen(`${redis.keys.queues}:${key}:active`);
  const answers = (await asked.exec()) ?? [];
  return keys.filter((_, index) => Number(answers[index]?.[1] ?? 0) > 0);
}
