/**
 * The claim loop of a host. Sleeps until a nudge, a job's end, a due retry or the sweep; nudges may be lost, the sweep
 * finds what they would have told.
 */
import { unlessAborted, within } from '../exec/patience.ts';
import { messageOf } from '../protocol/errors.ts';
import type { Claimed } from './claimed.ts';
import type { Claims } from './claims.ts';
import type { Log } from './handle.ts';
import { NextJobs, type NextJob, type NextJobOptions } from './next-job.ts';

export interface LoopOptions extends NextJobOptions {
  readonly claims: NextJobOptions['claims'] & Pick<Claims, 'nextDue'>;
  /** Takes the job to its end; never rejects. */
  readonly run: (claimed: Claimed) => Promise<void>;
  /** Calls back when something may be waiting. @returns how to stop listening */
  readonly onNudge: (wake: () => void) => () => void;
  /** Milliseconds between sweeps of all offered keys. */
  readonly sweep: number;
  readonly log: Log;
  /** Milliseconds for a look that is under way when the loop is to end. */
  readonly grace?: number;
  /** Told when it claims no more; jobs may run on. */
  readonly onStopped?: () => void;
}

/** As Redis takes at its worst; while it is away a look takes as long as that. */
const usualGrace = 3_000;

/** Runs until `stop` fires, then waits for the running jobs. */
export async function runLoop(options: LoopOptions, stop: AbortSignal): Promise<void> {
  const running = new Set<Promise<void>>();
  const bell = new Bell();
  const silence = options.onNudge(() => bell.ring());
  const onStop = (): void => bell.ring();
  stop.addEventListener('abort', onStop);
  const jobs = new NextJobs(options);
  try {
    const next = nextJob(options, jobs);
    while (!stop.aborted) {
      const found = await inTime(next(stop), stop, options);
      if (found === undefined) {
        await bell.wait(options.claims.nextDue(), options.sweep);
        continue;
      }
      const job = runInRoom(found, options)
        .catch((error: unknown) => options.log(`${found.claimed.runId}: ${String(error)}`)) // no job may end the worker
        .finally(() => {
          running.delete(job);
          bell.ring();
        });
      running.add(job);
    }
  } finally {
    silence();
    stop.removeEventListener('abort', onStop);
    options.onStopped?.();
    jobs[Symbol.dispose](); // now: what runs on may take hours
    await Promise.all(running);
  }
}

/** A look that takes too long once the loop is to end is undefined. */
function inTime(
  looking: Promise<NextJob | undefined>,
  stop: AbortSignal,
  { grace = usualGrace, log }: LoopOptions,
): Promise<NextJob | undefined> {
  return unlessAborted(looking, stop)
    .catch(() => within(looking, grace, () => new Error('late')))
    .catch(() => {
      void looking.then(putBack).catch((error: unknown) => log(`cannot give back what came late: ${messageOf(error)}`));
      return undefined;
    });
}

/** Nothing is begun any more. Until it has come, and if it never does, the journal has its token for the next worker. */
async function putBack(late: NextJob | undefined): Promise<void> {
  using _ = late?.room;
  await late?.claimed.giveBack();
}

async function runInRoom({ claimed, room }: NextJob, options: LoopOptions): Promise<void> {
  using _ = room;
  await options.run(claimed);
}

/** Undefined when there is nothing to begin now. */
function nextJob(options: LoopOptions, jobs: NextJobs): (stop: AbortSignal) => Promise<NextJob | undefined> {
  const { ledger, sweep, log, now = () => performance.now() } = options;
  let looked = -Infinity;
  return async (stop) => {
    // a full host asks Redis nothing at each nudge; but it looks now and then, for what finds no room
    if (ledger.full && now() - looked < sweep / 2) return undefined;
    looked = now();
    try {
      return await jobs.next(stop);
    } catch (error) {
      if (!stop.aborted) log(`cannot claim: ${String(error)}`); // Redis is away: the next sweep tries again
      return undefined;
    }
  };
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
