/** Hands a request in and, if asked, waits for its end, tells how it went and fetches what it made. */
import path from 'node:path';
import { durationExpected, parseDuration } from '../config/duration.ts';
import { userName } from '../exec/user-name.ts';
import { exitCodes, messageOf, UsageError } from '../protocol/errors.ts';
import { exitCodeOf } from '../protocol/failure.ts';
import { describeRequest, type JobRequest } from '../protocol/job-request.ts';
import { outcomeExitCode } from '../protocol/outcome.ts';
import { checkedLabels } from '../protocol/label.ts';
import { enqueue, type EnqueueOptions } from '../producer/enqueue.ts';
import type { RunDetails } from '../producer/runs.ts';
import { liveWorkers } from '../producer/workers.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { redisTime } from '../redis/time.ts';
import { openRedis, type Context } from './context.ts';
import { describeOutcome } from './outcome-text.ts';
import { json, out, progress } from './print.ts';
import { requireImage } from './require-image.ts';
import { requireRunnableHere } from './runnable-here.ts';
import { fetchResults, makeOutput, resultFolder } from './results.ts';
import { waitWithWorker } from './wait.ts';

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
  requirePossible(context, request);
  const detach = new AbortController();
  const seconds = deadlineOf(flags);
  const asked = {
    reuse: flags.reuse === true,
    tenant: tenantOf(flags.tenant),
    labels: checkedLabels(flags.label ?? []),
  };
  await using redis = await openRedis(context, new AbortController().signal);
  const options: EnqueueOptions = { ...asked, ...(await deadlineIn(redis, seconds)) };
  const arch = await requireImage(context, redis, request.image);
  const waits = flags.wait === true || flags.output !== undefined;
  if (waits && (await liveWorkers(redis.client, redis.keys)).length === 0) await requireRunnableHere(context, request);
  if (flags.output !== undefined) await makeOutput(flags.output);
  const { runId, state } = await enqueue(redis, request, arch, options);
  progress(
    `${runId} ${request.kind} ${describeRequest(request)} on ${request.image}${state === 'new' ? '' : ` (${state})`}`,
  );
  if (!waits) {
    if (flags.json) json({ id: runId, kind: request.kind, state });
    else out(runId);
    return 0;
  }
  // a closed terminal, too: what this process started must end with it
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.once(name, () => detach.abort(new Error('detached')));
  const { run, ranHere } = await waitWithWorker(context, redis, runId, detach.signal);
  if (run === undefined) {
    const then = ranHere ? 'it ran here, and waits in the queue again' : 'the job goes on';
    progress(`detached; ${then}. Wait again: the same command. Look: goldbed show ${runId}`);
    return exitCodes.interrupted;
  }
  return await finish(context, run, request, flags);
}

/** No host would ever take such a job. @throws {UsageError} */
function requirePossible({ settings }: Context, { kind, image, backend }: JobRequest): void {
  if (settings.external[image] === undefined) return;
  if (kind === 'update-golden')
    throw new UsageError(image, `${image} is opened by an external server: it cannot be refreshed`);
  if (backend === 'any' || backend === 'external') return;
  throw new UsageError('--backend', `--backend: ${image} is opened by an external server, not by ${backend}`);
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
  if (word === undefined) return userName();
  if (!/^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/.test(word)) {
    throw new UsageError('--tenant', `--tenant: expected a short name of letters, digits, . _ @ -, found "${word}"`);
  }
  return word;
}

async function finish(context: Context, run: RunDetails, request: JobRequest, flags: SubmitFlags): Promise<number> {
  const { outcome, failure } = run;
  const folder = await resultFolder(context, run);
  const uncopied = folder === undefined ? undefined : await copyOut(folder, flags.output);
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
  if (flags.output !== undefined && folder === undefined && outcome !== undefined) {
    progress(`goldbed: ${run.id}: its files are on ${outcome.host}, not here: nothing was copied to ${flags.output}`);
    if (outcomeExitCode(outcome) === 0) return exitCodes.unavailable; // what was asked for is not there
  }
  if (uncopied !== undefined) {
    progress(`goldbed: ${run.id}: its files are in ${folder}; they cannot be copied to ${flags.output}: ${uncopied}`);
    if (outcome !== undefined && outcomeExitCode(outcome) === 0) return exitCodes.unavailable;
  }
  if (outcome !== undefined) return outcomeExitCode(outcome);
  if (failure !== undefined) progress(`goldbed: ${run.id} ${failure.class}: ${failure.message}`);
  return failure === undefined ? exitCodes.interrupted : exitCodeOf(failure);
}

/** How the job went is told in any case. @returns why the files are not there */
async function copyOut(folder: string, output: string | undefined): Promise<string | undefined> {
  if (output === undefined) return undefined;
  try {
    await fetchResults(folder, output);
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}
