/** Sending nudges, and hearing them on a connection of its own. */
import { EventEmitter } from 'node:events';
import { parseNudge, type Nudge } from '../protocol/nudge.ts';
import type { RedisHandle } from './connect.ts';

export interface Nudges extends AsyncDisposable {
  /** @returns how to stop listening */
  listen(each: (nudge: Nudge) => void): () => void;
}

/** Nobody may be there to hear it; that is fine. */
export async function nudge(redis: RedisHandle, message: Nudge): Promise<void> {
  await redis.client.publish(redis.keys.nudges, JSON.stringify(message));
}

/** Milliseconds between two questions of a subscriber, which else says nothing: only a reply that is due tells that it is cut off. */
const askEvery = 10_000;

export async function subscribeNudges(redis: RedisHandle, every = askEvery): Promise<Nudges> {
  const subscriber = redis.duplicate();
  const events = new EventEmitter();
  events.setMaxListeners(0);
  subscriber.on('message', (_channel: string, message: string) => {
    const parsed = parseNudge(message);
    if (parsed !== undefined) events.emit('nudge', parsed);
  });
  await subscriber.subscribe(redis.keys.nudges);
  const asking = setInterval(() => {
    if (subscriber.status === 'ready') void subscriber.ping().catch(() => {});
  }, every);
  asking.unref();
  return {
    listen(each) {
      events.on('nudge', each);
      return () => void events.off('nudge', each);
    },
    async [Symbol.asyncDispose]() {
      clearInterval(asking);
      subscriber.disconnect();
    },
  };
}
