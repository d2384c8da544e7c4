/**
 * Ending at once, though the server is away. Commands wait for it for as long as that takes, which is right for a job that
 * runs, and wrong for a process that is to end: what it cannot say any more its journal tells the next one.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { within } from '../exec/patience.ts';
import type { RedisHandle } from './connect.ts';

/** Milliseconds for an answer, and between two questions. */
const usual = { limit: 5_000, every: 2_000 };

/**
 * Once `hurry` has fired, and until it is disposed of: a server that does not answer is given up, and with it all that waits
 * for it. One that answers is not, however long what is to be said there takes.
 */
export function endWithout({ client }: Pick<RedisHandle, 'client'>, hurry: AbortSignal, times = usual): Disposable {
  const over = new AbortController();
  const watch = async (): Promise<void> => {
    while (!over.signal.aborted && client.status !== 'end') {
      // an error is an answer
      const answer = client.ping().catch(() => 'refused');
      const late = (): Error => new Error('late');
      const silent = await within(answer, times.limit, late).catch(() => undefined);
      if (silent === undefined) giveUp(client);
      await delay(times.every, undefined, { signal: over.signal, ref: false }).catch(() => {});
    }
  };
  const begin = (): void => void watch();
  if (hurry.aborted) begin();
  else hurry.addEventListener('abort', begin);
  return {
    [Symbol.dispose]() {
      over.abort();
      hurry.removeEventListener('abort', begin);
    },
  };
}

/** disconnect() between two attempts to connect would only call off the next one, and leave what waits waiting. */
function giveUp(client: Redis): void {
  client.options.retryStrategy = () => null;
  if (client.status !== 'reconnecting') client.disconnect();
}
