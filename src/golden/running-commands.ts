/**
 * Commands that a client still runs in a testbed whose changes it wants to commit: what they have written so far may be
 * half of it. They are processes of this host, whatever the backend: their first words are the execute command's.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { GoldenRefusal, type Argv } from '../protocol/testbed.ts';

/** Milliseconds that a command gets to end, and between two looks: nobody tells us of its end. */
const grace = { whole: 5000, look: 100 };

/** What was started and left alone, such as a daemon, is no command. @throws {GoldenRefusal} `commit-failed`, naming one */
export async function untilCommandsEnd(auxverb: Argv, signal: AbortSignal): Promise<void> {
  const limit = performance.now() + grace.whole;
  for (;;) {
    const running = commandThrough(auxverb);
    if (running === undefined) return;
    if (performance.now() >= limit) throw new GoldenRefusal('commit-failed', `a command has not ended: ${running}`);
    await setTimeout(grace.look, undefined, { signal });
  }
}

function commandThrough(auxverb: Argv): string | undefined {
  const prefix = `${auxverb.join('\0')}\0`;
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    const words = commandLine(pid);
    if (words.startsWith(prefix)) return words.slice(prefix.length).split('\0').slice(0, 4).join(' ').trim();
  }
  return undefined;
}

/** Empty for one that has ended. */
function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}
