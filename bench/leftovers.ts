/** Ends what is still running in our own mount namespace: only what we started can be in it. */
import { readdirSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export async function endLeftovers(): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    for (let wait = 0; others().length > 0 && wait < 50; wait += 1) {
      if (wait % 10 === 0) for (const pid of others()) kill(pid, signal);
      await sleep(100);
    }
  }
}

function others(): number[] {
  const own = namespaceOf('self');
  const parent = process.ppid;
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => pid !== process.pid && pid !== parent && own !== undefined && namespaceOf(String(pid)) === own)
    .filter((pid) => !isHelper(pid));
}

/** esbuild's service process, which tsx needs until the end. */
function isHelper(pid: number): boolean {
  try {
    return readlinkSync(`/proc/${pid}/exe`).endsWith('/esbuild');
  } catch {
    return true; // gone
  }
}

function namespaceOf(process: string): string | undefined {
  try {
    return readlinkSync(`/proc/${process}/ns/mnt`);
  } catch {
    return undefined;
  }
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // gone
  }
}
