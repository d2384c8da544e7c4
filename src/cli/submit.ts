/** Hands a request in and, if asked, waits for its end, tells how it went and fetches what it made. */
import { cp, mkdir } from 'node:fs/promises';
import { userInfo } from 'node:os';
import path from 'node:path';
import { durationExpected, parseDuration } from '../config/duration.ts';
import { debianArchitecture } from '../exec/debian-architecture.ts';
import { exitCodes, UsageError } from '../protocol/errors.ts';
import { exitCodeOf } from '../protocol/failure.ts';
import { describeRequest, type JobRequest } from '../protocol/job-request.ts';
import { outcomeExitCode } from '../protocol/outcome.ts';
import { checkedLabels } from '../protocol/label.ts';
import { enqueue, type EnqueueOptions } from '../producer/enqueue.ts';
import { waitFor, type RunDetails } from '../producer/runs.ts';
import { whyWaiting } from '../producer/why.ts';
import { liveWorkers } from '../producer/workers.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { redisTime } from '../redis/time.ts';
import { openRedis, type Context } from './context.ts';
import { knownImages } from './offers.ts';
import { describeOutcome, describeWait } from './outcome-text.ts';
import { json, out, progress } from './print.ts';
import { startWorker, type RunningWorker } from './run-worker.ts';

export interface SubmitFlags {
  readonly wait?: boolean;
  readonly reuse?: boolean;
  readonly json?: boolean;
  readonly output?: string;
  readonly tenant?: string;
  readonly label?: readonly string[];
  readonly deadline?: string;
}

/** @returns the exit code */
export async function submit(context: Context, request: JobRequest, flags: SubmitFlags): Promise<number> {
  const detach = new AbortController();
  const seconds = deadlineOf(flags);
  const asked = {
    reuse: flags.reuse === true,
    tenant: tenantOf(flags.tenant),
    labels: checkedLabels(flags.label ?? []),
  };
  await using redis = await openRedis(context, new AbortController().signal);
  const options: EnqueueOptions = { ...asked, ...(await deadlineIn(redis, seconds)) };
  await requireImage(context, redis, request.image);
  const arch = await debianArchitecture();
  const { runId, state } = await enqueue(redis, request, arch, options);
  progress(
    `${runId} ${request.kind} ${describeRequest(request)} on ${request.image}${state === 'new' ? '' : ` (${state})`}`,
  );
  if (flags.wait !== true && flags.output === undefined) {
    if (flags.json) json({ id: runId, kind: request.kind, state });
    else out(runId);
    return 0;
  }
  process.once('SIGINT', () => detach.abort(new Error('detached')));
  const run = await waitWithWorker(context, redis, runId, detach.signal);
  if (run === undefined) {
    progress(`detached; the job goes on. Wait again: the same command. Look: goldbed show ${runId}`);
    return exitCodes.interrupted;
  }
  return await finish(context, run, request, flags);
}

/** Seconds. @throws {UsageError} */
function deadlineOf({ deadline }: SubmitFlags): number | undefined {
  if (deadline === undefined) return undefined;
  const seconds = parseDuration(deadline);
  if (seconds !== undefined) return seconds;
  throw new UsageError('--deadline', `--deadline: ${durationExpected}; found "${deadline}"`);
}

/** By the clock that it is judged by (deadlines.ts in worker/). */
async function deadlineIn(redis: RedisHandle, seconds: number | undefined): Promise<{ deadline?: number }> {
  return seconds === undefined ? {} : { deadline: (await redisTime(redis.client)) + seconds * 1000 };
}

function tenantOf(word: string | undefined): string {
  if (word === undefined) return userInfo().username;
  if (!/^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/.test(word)) {
    throw new UsageError('--tenant', `--tenant: expected a short name of letters, digits, . _ @ -, found "${word}"`);
  }
  return word;
}

/** Waits; where no worker is running, this process is the worker for the occasion. */
async function waitWithWorker(
  context: Context,
  redis: RedisHandle,
  runId: string,
  signal: AbortSignal,
): Promise<RunDetails | undefined> {
  let own: RunningWorker | undefined;
  const tellWait = waitTeller(redis, runId);
  try {
    return await waitFor(redis, runId, signal, async (run) => {
      await tellWait(run);
      if (['completed', 'failed', 'cancelled'].includes(run.state) || own !== undefined) return;
      if ((await liveWorkers(redis.client, redis.keys)).length > 0) return;
      progress('no worker is running: running the job here');
      own = await startWorker(context, { slots: 1, log: () => {} });
    });
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  } finally {
    own?.stop(signal.aborted ? 'now' : 'drain');
    await own?.finished;
  }
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

async function finish(context: Context, run: RunDetails, request: JobRequest, flags: SubmitFlags): Promise<number> {
  const { outcome, failure } = run;
  const folder = outcome === undefined ? undefined : path.join(context.state.jobs, run.id, String(outcome.attempt));
  if (flags.output !== undefined && folder !== undefined) await fetchResults(folder, flags.output);
  if (flags.json) {
    json({
      id: run.id,
      kind: request.kind,
      state: run.state,
      ...(outcome === undefined ? {} : { outcome }),
      ...(failure === undefined ? {} : { failure }),
      ...(folder === undefined ? {} : { log: path.join(folder, 'log'), artifacts: path.join(folder, 'artifacts') }),
    });
  } else if (outcome !== undefined) {
    for (const line of describeOutcome(run.id, outcome, flags.output)) out(line);
  }
  if (outcome !== undefined) return outcomeExitCode(outcome);
  if (failure !== undefined) progress(`goldbed: ${run.id} ${failure.class}: ${failure.message}`);
  return failure === undefined ? exitCodes.interrupted : exitCodeOf(failure);
}

/** The artifacts as they are, and the client's log beside them. */
async function fetchResults(folder: string, target: string): Promise<void> {
  await mkdir(target, { recursive: true });
  await cp(path.join(folder, 'artifacts'), target, {
    recursive: true,
    preserveTimestamps: true,
    verbatimSymlinks: true,
  });
}

/** @throws {UsageError} neither this host nor a worker has it */
export async function requireImage(context: Context, redis: RedisHandle, image: string): Promise<void> {
  const local = await knownImages(context);
  const offered = (await liveWorkers(redis.client, redis.keys)).flatMap((worker) => worker.images);
  const known = [...new Set([...local, ...offered])].toSorted();
  if (known.includes(image)) return;
  const hint =
    known.length === 0 ? 'there are none yet: goldbed image create NAME --suite SUITE' : `known: ${known.join(', ')}`;
  throw new UsageError(image, `unknown image "${image}" (${hint})`);
}
