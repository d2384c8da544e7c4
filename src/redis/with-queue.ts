/** A queue of BullMQ's on our connection, for one action. */
import type { Queue as BullQueue } from 'bullmq';
import type { RedisHandle } from './connect.ts';

export async function withQueue<T>(
  redis: RedisHandle,
  name: string,
  action: (queue: BullQueue) => Promise<T>,
): Promise<T> {
  const { Queue } = await import('./bullmq.ts');
  const queue = new Queue(name, { connection: redis.client, prefix: redis.keys.queues });
  queue.on('error', () => {}); // each command hears of it by itself
  try {
    return await action(queue);
  } finally {
    await queue.close();
  }
}
