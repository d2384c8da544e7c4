/**
 * Commands that outlast a broken connection. ioredis keeps commands while the server is away, and yet gives all of them
 * up when a new connection breaks in its first moments, or a pipeline was answered in part; so they are sent again here.
 */
import { once } from 'node:events';
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

const codes: readonly unknown[] = ['EPIPE', 'ECONNRESET', 'ECONNREFUSED', 'ECONNABORTED', 'ENOENT', 'ETIMEDOUT'];

/** As node, and ioredis 6 (utils, redis-errors), call it. */
function isBrokenConnection(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if ('code' in error && codes.includes(error.code)) return true;
  return error.name === 'AbortError' || /^Connection is closed|^Socket closed/.test(error.message);
}
