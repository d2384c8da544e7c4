/** Waiting for a job; where no worker is running, this process is the worker for the occasion. */
import { atLeast, usualSize, type Resources, type Size } from '../protocol/size.ts';
import { waitFor, type RunDetails } from '../producer/runs.ts';
import { whyWaiting } from '../producer/why.ts';
import { liveWorkers } from '../producer/workers.ts';
import type { RedisHandle } from '../redis/connect.ts';
import type { Context } from './context.ts';
import { describeWait } from './outcome-text.ts';
import { progress } from './print.ts';
import type { RunningWorker } from './run-worker.ts';

export interface Waited {
  /** Undefined when the wait was given up. */
  readonly run: RunDetails | undefined;
  /** Whether this process was the one that ran it when the wait was given up. */
  readonly ranHere: boolean;
}

/** @param signal gives the wait up */
export async function waitWithWorker(
  context: Context,
  redis: RedisHandle,
  runId: string,
  signal: AbortSignal,
): Promise<Waited> {
  let own: RunningWorker | undefined;
  const tellWait = waitTeller(redis, runId);
  // once the job has begun here, nobody else's is begun: the command ends with its own job
  const onBegin = (begun: string): void => {
    if (begun === runId) own?.stop('drain');
  };
  try {
    const run = await waitFor(redis, runId, signal, async (seen) => {
      await tellWait(seen);
      if (['completed', 'failed', 'cancelled'].includes(seen.state) || own !== undefined) return;
      if ((await liveWorkers(redis.client, redis.keys)).length > 0) return;
      progress('no worker is running: running the job here');
      const { startWorker } = await import('./run-worker.ts');
      own = await startWorker(context, { capacity: roomFor(context, seen.size), log: () => {}, onBegin });
      // it may have to run again, after a failure of its testbed
      void own.finished.then(
        () => (own = undefined),
        () => {},
      );
    });
    return { run, ranHere: false };
  } catch (error) {
    if (signal.aborted) return { run: undefined, ranHere: own !== undefined };
    throw error;
  } finally {
    own?.stop(signal.aborted ? 'now' : 'drain');
    await own?.finished;
  }
}

/** For the job, whatever the host has: nobody else would run it. And for a refresh of its image, should it want one. */
function roomFor({ settings: { sizes } }: Context, size: Size = usualSize): Resources {
  return atLeast(sizes[size], sizes[usualSize]);
}

/** Milliseconds between two lines that tell why the job is held back, and for which a job that waits is nothing to tell of. */
const times = { again: 30_000, patience: 5_000 };

function waitTeller(redis: RedisHandle, runId: string): (run: RunDetails) => Promise<void> {
  let told = { cause: '', at: 0 };
  let waiting: number | undefined;
  return async (run) => {
    const now = Date.now();
    waiting = run.state === 'waiting' ? (waiting ?? now) : undefined;
    let cause = run.waits?.run ?? run.parked;
    let text = describeWait(run, now);
    if (text === undefined && waiting !== undefined && now - waiting > times.patience) {
      waiting = now;
      [text] = await whyWaiting(redis, runId);
      cause = text === undefined ? undefined : 'why'; // counts of jobs and slots change all the time
    }
    if (text === undefined || cause === undefined) return;
    if (told.cause === cause && now - told.at < times.again) return;
    told = { cause, at: now };
    progress(`${runId} ${cause === 'why' ? 'waits: ' : ''}${text}`);
  };
}
