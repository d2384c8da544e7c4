/** What a Redis may lose of what it has acknowledged: not refused where that is common, but said. */
import { messageOf } from '../protocol/errors.ts';
import type { RedisHandle } from './connect.ts';

/** One line for whoever starts a worker; undefined where each write is on disk before it is acknowledged. */
export async function durabilityWarning({ client }: Pick<RedisHandle, 'client'>): Promise<string | undefined> {
  try {
    const answer = (await client.config('GET', 'append*')) as unknown;
    const flat: unknown[] = Array.isArray(answer) ? answer : Object.entries(answer as object).flat();
    const value = (name: string): unknown => flat[flat.indexOf(name) + 1];
    if (value('appendonly') !== 'yes')
      return 'Redis does not persist (appendonly is no): if it ends, all jobs are lost';
    const often = losses.get(String(value('appendfsync')));
    if (often === undefined) return undefined;
    return `Redis syncs its log ${often}: a power cut may lose as much of what was acknowledged; docs/fleet.md`;
  } catch (error) {
    return `the settings of Redis cannot be read (${messageOf(error)}): whether it loses jobs is not known`;
  }
}

/** By appendfsync; `always` loses nothing. */
const losses = new Map([
  ['everysec', 'every second (appendfsync everysec)'],
  ['no', 'when the kernel does, every half minute or so (appendfsync no)'],
]);
