/** What an operator has paused: its jobs are not begun until that is taken back. */
import { parseJson } from './json.ts';
import { drainedSchema, type Drained } from './presence.ts';

/** `image:NAME`, `label:NAME` or `job:ID`, as the hash in Redis has it. */
export type PausedName = `image:${string}` | `label:${string}` | `job:${string}`;

export type Paused = ReadonlyMap<string, Drained>;

/** `label nmu`, for people. */
export function pausedText(name: string): string {
  return name.replace(':', ' ');
}

/** That it stands there is what counts: an entry of another version holds as well. */
export function parseHeldBack(text: string): Drained {
  return drainedSchema.safeParse(parseJson(text)).data ?? { reason: 'unknown', since: 0 };
}
