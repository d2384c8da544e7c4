/** What happens to one claimed job: parse, open its folder, run, and settle by the one switch. Each ends here, once. */
import { messageOf, UsageError } from '../protocol/errors.ts';
import { failureError, failureOf } from '../protocol/failure.ts';
import { jobRequestSchema, type JobRequest } from '../protocol/job-request.ts';
import { isRunId } from '../protocol/routing.ts';
import { openAttemptFolder, type AttemptFolder } from './attempt-folder.ts';
import type { Claimed } from './claimed.ts';
import type { Host } from './host.ts';
import { runJob } from './run-job.ts';
import { judge } from './settle.ts';
import { StepClock } from './stages.ts';

export type Log = (line: string, details?: Record<string, unknown>) => void;

/** How it ended for this host. `testbed`: the world failed, not the package; the job will be tried again. */
export type Ending =
  | { readonly kind: 'completed' }
  | { readonly kind: 'testbed'; readonly message: string }
  | { readonly kind: 'other' };

/** Whether a job may begin; if not, it is back in the queue. Throws what it is to fail with. */
export type Gate = (claimed: Claimed, request: JobRequest) => Promise<boolean>;

/** Never rejects: whatever happens to one job must not stop the worker. */
export async function handle(
  claimed: Claimed,
  host: Host,
  gate: Gate,
  signal: AbortSignal,
  log: Log,
  run: typeof runJob = runJob,
): Promise<Ending> {
  const clock = new StepClock();
  clock.add('queued', Math.max(0, (Date.now() - claimed.submitted) / 1000));
  try {
    if (!isRunId(claimed.runId)) return await refuse(claimed, log);
    const admitted = await admit(claimed, gate, signal);
    if (admitted === 'waits') {
      log(`${claimed.runId}: waits: goldbed why ${claimed.runId}`);
      return { kind: 'other' };
    }
    await using folder = await openAttemptFolder(host.state, claimed.runId, claimed.attempt);
    return await attempt(claimed, admitted, host, folder, clock, signal, log, run);
  } catch (error) {
    log(`${claimed.runId}: cannot be settled: ${messageOf(error)}`);
    return { kind: 'other' };
  }
}

/** Without a folder: its id would be the folder's name. */
async function refuse(claimed: Claimed, log: Log): Promise<Ending> {
  const error = new UsageError('id', `malformed queue entry: ${JSON.stringify(claimed.runId)} is no id of a job`);
  log(error.message);
  await claimed.fail(failureError(failureOf(error), error), { retry: false });
  return { kind: 'other' };
}

/** @returns the request, or what it fails with: the attempt's folder tells of it */
async function admit(claimed: Claimed, gate: Gate, signal: AbortSignal): Promise<'waits' | (() => JobRequest)> {
  try {
    signal.throwIfAborted();
    const request = parseRequest(claimed);
    return (await gate(claimed, request)) ? () => request : 'waits';
  } catch (error) {
    return () => {
      throw error;
    };
  }
}

async function attempt(
  claimed: Claimed,
  admitted: () => JobRequest,
  host: Host,
  folder: AttemptFolder,
  clock: StepClock,
  signal: AbortSignal,
  log: Log,
  run: typeof runJob,
): Promise<Ending> {
  let done = false;
  try {
    signal.throwIfAborted();
    const request = admitted();
    log(`${claimed.runId}: ${request.kind} on ${request.image}, attempt ${folder.attempt}`);
    const outcome = await run(request, { runId: claimed.runId, host, folder, clock }, signal);
    folder.writeResult(outcome);
    done = true;
    await claimed.complete(outcome);
    log(`${claimed.runId}: ${outcome.result.status}`);
    return { kind: 'completed' };
  } catch (thrown) {
    // what the job threw after its signal fired is only the echo of it
    return settle(claimed, done || !signal.aborted ? thrown : signal.reason, folder, done, log);
  }
}

/** @param done its outcome is written down: only the telling failed */
async function settle(
  claimed: Claimed,
  error: unknown,
  folder: AttemptFolder,
  done: boolean,
  log: Log,
): Promise<Ending> {
  const verdict = judge(error);
  const message = messageOf(error);
  log(`${claimed.runId}: ${verdict.kind}: ${message}`);
  // a claim that is lost in the telling may have been told after all, and only the answer was lost: then it counts
  if (!done || verdict.kind !== 'hands-off') folder.writeResult({ error: message });
  switch (verdict.kind) {
    case 'retry':
    case 'stop':
      await claimed.fail(failureError(failureOf(error), error), { retry: verdict.kind === 'retry' });
      break;
    case 'give-back':
      await claimed.giveBack();
      break;
    case 'hands-off':
      break;
  }
  return verdict.kind === 'retry' ? { kind: 'testbed', message } : { kind: 'other' };
}

/** The entry may have been written by another program or another version. @throws {UsageError} */
function parseRequest(claimed: Claimed): JobRequest {
  const parsed = jobRequestSchema.safeParse(claimed.data);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const key = issue?.path.join('.') || 'request';
  throw new UsageError(key, `malformed queue entry: ${key}: ${issue?.message ?? 'invalid'}`);
}
