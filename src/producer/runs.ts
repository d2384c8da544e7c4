/** What is known of runs: their state, their outcome, and waiting for it; and cancelling them. */
import type { Job } from 'bullmq';
import { UsageError } from '../protocol/errors.ts';
import { labelsOf } from '../protocol/label.ts';
import { parseFailure, type Failure } from '../protocol/failure.ts';
import { jobRequestSchema, type JobRequest } from '../protocol/job-request.ts';
import { outcomeSchema, type Outcome } from '../protocol/outcome.ts';
import { parseRoutingKey } from '../protocol/routing.ts';
import { usualSize, type Size } from '../protocol/size.ts';
import { parseWaits, type Waits } from '../protocol/waits.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { withQueue } from '../redis/with-queue.ts';
import { subscribeNudges } from '../redis/nudges.ts';
import { cancelRuns } from '../redis/cancel.ts';
import { persist } from '../redis/persist.ts';
import { unlessAborted } from '../exec/patience.ts';

/** `absent`: nobody has put it into a queue (any more). */
export type RunState = 'waiting' | 'active' | 'delayed' | 'completed' | 'failed' | 'cancelled' | 'absent';

export interface RunDetails {
  readonly id: string;
  readonly state: RunState;
  readonly kind?: string;
  readonly what?: string;
  readonly image?: string;
  /** Unless it is the usual one, `m`. */
  readonly size?: Size;
  /** Milliseconds since the epoch. */
  readonly submitted: number;
  /** When its latest attempt was claimed, and when it ended for good. */
  readonly started?: number;
  readonly finished?: number;
  readonly outcome?: Outcome;
  readonly failure?: Failure;
  /** While it is held back. */
  readonly waits?: Waits;
  /** What is paused (protocol/paused.ts), so that it is put off. */
  readonly parked?: string;
  readonly labels?: readonly string[];
  /** Milliseconds since the epoch at which it is cancelled. */
  readonly deadline?: number;
}

export async function showRun(redis: RedisHandle, id: string): Promise<RunDetails> {
  const said = await redis.client.hgetall(redis.keys.run(id));
  const { queue, kind, what, image, submitted, cancelled, waits, parked, labels, deadline } = said;
  const { size = usualSize } = parseRoutingKey(queue ?? '') ?? {};
  const known = {
    id,
    submitted: Number(submitted ?? 0),
    ...(kind === undefined ? {} : { kind }),
    ...(what === undefined ? {} : { what }),
    ...(image === undefined ? {} : { image }),
    ...(size === usualSize ? {} : { size }),
    ...(labels === undefined ? {} : { labels: labelsOf(labels) }),
    ...(deadline === undefined ? {} : { deadline: Number(deadline) }),
  };
  const job = queue === undefined ? undefined : await getJob(redis, queue, id);
  if (job === undefined) {
    // asked for now: it may have been taken from the queue since the first look
    const [reason, when] = await redis.client.hmget(redis.keys.run(id), 'cancelled', 'cancelledAt');
    if (reason === null || reason === undefined) return { ...known, state: 'absent' };
    const finished = when === null || when === undefined ? {} : { finished: Number(when) };
    return { ...known, ...finished, state: 'cancelled', failure: { class: 'interrupted', message: reason } };
  }
  // stopped by the one who cancelled it: how far it had come when that was asked makes no difference
  if (cancelled !== undefined && job.failure?.class === 'interrupted') return { ...known, ...job, state: 'cancelled' };
  if (job.state !== 'delayed') return { ...known, ...job };
  const reason = parseWaits(waits);
  const held = { ...(reason === undefined ? {} : { waits: reason }), ...(parked === undefined ? {} : { parked }) };
  return { ...known, ...job, ...held };
}

/** Newest first. */
export async function listRuns(redis: RedisHandle, limit = 1000): Promise<RunDetails[]> {
  const ids = await redis.client.zrevrange(redis.keys.runs, 0, limit - 1);
  const runs = await Promise.all(ids.map((id) => showRun(redis, id)));
  return runs.filter(({ state }) => state !== 'absent');
}

/** The run whose id begins so; of several runs of one request the latest. @throws {UsageError} none, or more than one */
export async function findRun(redis: RedisHandle, prefix: string): Promise<RunDetails> {
  const ids = (await redis.client.zrevrange(redis.keys.runs, 0, -1)).filter((id) => id.startsWith(prefix));
  const exact = ids.find((id) => id === prefix);
  const [latest] = ids;
  if (latest === undefined) throw new UsageError(prefix, `no job with an id that begins with "${prefix}"`);
  const requests = new Set(ids.map((id) => id.split('-')[0]));
  if (exact === undefined && requests.size > 1) {
    throw new UsageError(prefix, `"${prefix}" is the beginning of several ids: ${ids.slice(0, 5).join(', ')}`);
  }
  return showRun(redis, exact ?? latest);
}

/** Milliseconds between two looks while waiting; a nudge comes sooner, but may be lost. */
const lookEvery = 1000;

/**
 * Waits for a run's end. @param onLook called at each look, before waiting on
 * @throws the signal's reason when it fires
 */
export async function waitFor(
  redis: RedisHandle,
  id: string,
  signal: AbortSignal,
  onLook: (run: RunDetails) => Promise<void> | void = () => {},
): Promise<RunDetails> {
  await using nudges = await unlessAborted(subscribeNudges(redis), signal);
  for (;;) {
    signal.throwIfAborted();
    const heard = nextNudge(nudges, id, signal);
    const run = await unlessAborted(
      persist(redis, () => showRun(redis, id)),
      signal,
    );
    if (!['waiting', 'active', 'delayed'].includes(run.state)) {
      heard.stop();
      return run;
    }
    await onLook(run);
    await heard.promise;
  }
}

/** @throws {UsageError} there is none, or it has ended */
export async function cancelRun(redis: RedisHandle, id: string, reason: string): Promise<void> {
  const { state } = await showRun(redis, id);
  if (state === 'absent') throw new UsageError(id, `no job ${id}`);
  if (['completed', 'failed', 'cancelled'].includes(state)) throw new UsageError(id, `${id} has ended: ${state}`);
  if ((await cancelRuns(redis, [id], reason)).length === 1) return;
  const now = (await showRun(redis, id)).state; // cancelled: done twice, because the connection broke in between
  if (now !== 'cancelled') throw new UsageError(id, `${id} has ended: ${now}`);
}

function nextNudge(
  nudges: Awaited<ReturnType<typeof subscribeNudges>>,
  id: string,
  signal: AbortSignal,
): { readonly promise: Promise<void>; stop(): void } {
  let stop = (): void => {};
  const promise = new Promise<void>((resolve) => {
    const timer = setTimeout(done, lookEvery);
    const silence = nudges.listen((heard) => {
      if ('ended' in heard && heard.ended === id) done();
    });
    signal.addEventListener('abort', done, { once: true });
    function done(): void {
      clearTimeout(timer);
      silence();
      signal.removeEventListener('abort', done);
      resolve();
    }
    stop = done;
  });
  return { promise, stop };
}

/** What a run was asked to do; undefined where nobody knows it any more, or another version wrote it. */
export async function requestOf(redis: RedisHandle, id: string): Promise<JobRequest | undefined> {
  const queue = await redis.client.hget(redis.keys.run(id), 'queue');
  if (queue === null) return undefined;
  return withQueue(redis, queue, async (opened) => {
    const job = (await opened.getJob(id)) as Job | undefined;
    const parsed = jobRequestSchema.safeParse(job?.data);
    return parsed.success ? parsed.data : undefined;
  });
}

type JobPart = Pick<RunDetails, 'state' | 'started' | 'finished' | 'outcome' | 'failure'>;

async function getJob(redis: RedisHandle, queue: string, id: string): Promise<JobPart | undefined> {
  return withQueue(redis, queue, async (opened) => {
    // the state first: read after the job, it may be of a later moment, and a run completed without its outcome
    const state = stateOf(await opened.getJobState(id));
    const job = (await opened.getJob(id)) as Job | undefined;
    if (job === undefined) return undefined;
    const known = { state, ...timesOf(job) };
    if (known.state === 'completed') {
      const parsed = outcomeSchema.safeParse(job.returnvalue);
      if (parsed.success) return { ...known, outcome: parsed.data };
      return { ...known, failure: { class: 'internal' as const, message: 'its recorded outcome cannot be read' } };
    }
    if (known.state === 'failed') return { ...known, failure: parseFailure(job.failedReason ?? 'unknown') };
    return known;
  });
}

function timesOf({ processedOn, finishedOn }: Job): Pick<RunDetails, 'started' | 'finished'> {
  return {
    ...(processedOn === undefined ? {} : { started: processedOn }),
    ...(finishedOn === undefined ? {} : { finished: finishedOn }),
  };
}

function stateOf(state: string): RunState {
  if (state === 'prioritized' || state === 'waiting-children') return 'waiting';
  return state === 'unknown' ? 'absent' : (state as RunState);
}
