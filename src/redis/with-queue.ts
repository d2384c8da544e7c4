/** A queue of BullMQ's on our connection, for one action. */
import type { Queue } from 'bullmq';
import type { RedisHandle } from './connect.ts';

export async function withQueue<T>(redis: RedisHandle, name: string, action: (queue: Queue) => Promise<T>): Promise<T> {
  const bullmq = await import('bullmq'); // half of the program, and most commands never need it
  const queue = new bullmq.Queue(name, { connection: redis.client, prefix: redis.keys.queues });
  try {
    return await action(queue);
  } finally {
    await queue.close();
  }
}
