/** Reading what is paused. Workers ask before each claim, so that a pause holds for queues that come later, too. */
import { parseHeldBack, type Paused } from '../protocol/paused.ts';
import type { RedisHandle } from './connect.ts';

export async function pausedNow({ client, keys }: RedisHandle): Promise<Paused> {
  const told = Object.entries(await client.hgetall(keys.paused));
  return new Map(told.map(([name, text]) => [name, parseHeldBack(text)]));
}
