/**
 * Commands that outlast a broken connection. ioredis keeps commands while the server is away, and yet gives all of them
 * up when a new connection breaks in its first moments, or a pipeline was answered in part; so they are sent again here.
 */
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { RedisHandle } from './connect.ts';

/** @param action harmless when done twice: it may have been carried out, and only its answer lost */
export async function persist<T>({ client }: RedisHandle, action: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await action();
    } catch (error) {
      if (!isBrokenConnection(error) || client.status === 'end') throw error;
      if (client.status !== 'ready') await Promise.race([once(client, 'ready'), once(client, 'end')]).catch(() => {});
    }
  }
}

/** Milliseconds before a server that refuses is asked again, at first and at last. */
const pauses = { first: 200, longest: 10_000 };

/**
 * As {@link persist}, and outlasts a server that is there and refuses: its disk or memory is full (MISCONF, OOM), it is a
 * replica for a while (READONLY), it has just begun (LOADING). For what must not be given up because of that.
 */
export async function insist<T>(redis: RedisHandle, action: () => Promise<T>): Promise<T> {
  for (let pause = pauses.first; ; pause = Math.min(2 * pause, pauses.longest)) {
    try {
      return await persist(redis, action);
    } catch (error) {
      if (!isRefusal(error) || redis.client.status === 'end' || redis.hurry?.aborted === true) throw error;
      await delay(pause, undefined, { signal: redis.hurry }).catch(() => {}); // then it is asked once more
    }
  }
}

/** What the server says of itself, and not of what was asked: that would be wrong however often it is asked. */
const refusals = /^(MISCONF|OOM|READONLY|LOADING|BUSY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|NOAUTH|NOPERM)\b/;

/** Its disk or memory is full, say, or it is a replica. */
export function isRefusal(error: unknown): boolean {
  return error instanceof Error && error.name === 'ReplyError' && refusals.test(error.message);
}

const codes: readonly unknown[] = ['EPIPE', 'ECONNRESET', 'ECONNREFUSED', 'ECONNABORTED', 'ENOENT', 'ETIMEDOUT'];

/** As node, and ioredis 6 (utils, redis-errors), call it. */
function isBrokenConnection(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if ('code' in error && codes.includes(error.code)) return true;
  return error.name === 'AbortError' || /^Connection is closed|^Socket closed/.test(error.message);
}
