/**
 * What sessions of dead processes left on this host goes away, and what was made of generations that are gone. A backend that
 * fails at that, or hangs, is in nobody's way.
 */
import type { Backend } from '../backends/backend.ts';
import { within } from '../exec/patience.ts';
import { messageOf } from '../protocol/errors.ts';
import type { Log } from './handle.ts';

export type Reaper = Pick<Backend, 'name' | 'reap'>;

/** Milliseconds for which the backends are waited for: removing is quick, but a daemon may not answer. */
const patience = 60_000;

/** Never rejects: what is left is found the next time. One that has no end goes on in the background. */
export async function reapAll(backends: readonly Reaper[], log: Log, limit = patience): Promise<void> {
  await Promise.all(
    backends.map(async (backend) => {
      const late = (): Error => new Error(`not done within ${limit / 1000} s, and not waited for any longer`);
      await within(reap(backend, log), limit, late).catch((error: unknown) =>
        log(`${backend.name}: not cleared away: ${messageOf(error)}`),
      );
    }),
  );
}

/** In the background, and one at a time: asked while it is at it, it begins anew, for what it may have looked at before. */
export function reaperOf(backends: readonly Reaper[], log: Log): () => void {
  let asked = false;
  let busy = false;
  const work = async (): Promise<void> => {
    busy = true;
    while (asked) {
      asked = false;
      await reapAll(backends, log);
    }
    busy = false;
  };
  return () => {
    asked = true;
    if (!busy) void work();
  };
}

async function reap(backend: Reaper, log: Log): Promise<void> {
  for (const session of await backend.reap(log)) log(`removed what session ${session} left`);
}
