/**
 * The claim loop of a host: first a slot, then a claim; so nothing is ever fetched that cannot run at once. Sleeps until
 * a nudge, a freed slot, a due retry or the sweep; nudges may be lost, the sweep finds what they would have told.
 */
import type { RoutingKey } from '../protocol/routing.ts';
import type { Claimed } from './claimed.ts';
import type { Claims } from './claims.ts';
import type { Log } from './handle.ts';
import type { Slot, Slots } from './slots.ts';

export interface LoopOptions {
  readonly slots: Slots;
  readonly claims: Pick<Claims, 'claim' | 'nextDue' | 'ready'>;
  /** Routing keys that this host offers now; asked anew at each round. */
  readonly offers: () => Promise<readonly RoutingKey[]>;
  /** Takes the job to its end; never rejects. */
  readonly run: (claimed: Claimed) => Promise<void>;
  /** Calls back when something may be waiting. @returns how to stop listening */
  readonly onNudge: (wake: () => void) => () => void;
  /** Milliseconds between sweeps of all offered keys. */
  readonly sweep: number;
  readonly log: Log;
}

/** Runs until `stop` fires, then waits for the running jobs. */
export async function runLoop(options: LoopOptions, stop: AbortSignal): Promise<void> {
  const running = new Set<Promise<void>>();
  const bell = new Bell();
  const silence = options.onNudge(() => bell.ring());
  const onStop = (): void => bell.ring();
  stop.addEventListener('abort', onStop);
  try {
    let turn = 0;
    while (!stop.aborted) {
      const slot = options.slots.tryReserve();
      const claimed = slot === undefined ? undefined : await claimNext(options, turn++);
      if (slot === undefined || claimed === undefined) {
        slot?.[Symbol.dispose]();
        await bell.wait(options.claims.nextDue(), options.sweep);
        continue;
      }
      const job = runInSlot(slot, claimed, options)
        .catch((error: unknown) => options.log(`${claimed.runId}: ${String(error)}`)) // no job may end the worker
        .finally(() => {
          running.delete(job);
          bell.ring();
        });
      running.add(job);
    }
  } finally {
    silence();
    stop.removeEventListener('abort', onStop);
    await Promise.all(running);
  }
}

async function runInSlot(slot: Slot, claimed: Claimed, options: LoopOptions): Promise<void> {
  using _ = slot;
  await options.run(claimed);
}

/** Tries the ready keys that are offered, beginning with another each time, so that a busy key does not starve the others. */
async function claimNext({ claims, offers, log }: LoopOptions, turn: number): Promise<Claimed | undefined> {
  try {
    const offered = new Set(await offers());
    const keys = (await claims.ready()).filter((key) => offered.has(key));
    for (let i = 0; i < keys.length; i += 1) {
      const key = keys[(turn + i) % keys.length];
      const claimed = key === undefined ? undefined : await claims.claim(key);
      if (claimed !== undefined) return claimed;
    }
  } catch (error) {
    log(`cannot claim: ${String(error)}`); // Redis is away: the next sweep tries again
  }
  return undefined;
}

/** Wakes one sleeper; a ring while nobody sleeps is remembered. */
class Bell {
  #rung = false;
  #wake: (() => void) | undefined;

  ring(): void {
    this.#rung = true;
    this.#wake?.();
  }

  /** Until a ring, the due time (epoch ms), or `limit` ms. */
  async wait(due: number | undefined, limit: number): Promise<void> {
    const delay = due === undefined ? limit : Math.min(limit, Math.max(0, due - Date.now()));
    if (!this.#rung) {
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        timer = setTimeout(resolve, delay);
      });
      clearTimeout(timer);
    }
    this.#rung = false;
    this.#wake = undefined;
  }
}
