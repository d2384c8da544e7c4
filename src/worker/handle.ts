/** What happens to one claimed job: parse, open its folder, run, and settle by the one switch. Each ends here, once. */
import { HostError, LeaseLost, messageOf, UsageError } from '../protocol/errors.ts';
import { failureError, failureOf } from '../protocol/failure.ts';
import { jobRequestSchema, type JobRequest } from '../protocol/job-request.ts';
import { outcomeSchema, type Outcome } from '../protocol/outcome.ts';
import { isRunId } from '../protocol/routing.ts';
import { openAttemptFolder, type AttemptFolder } from './attempt-folder.ts';
import { usedUp, type RetriedClass } from './budgets.ts';
import type { Claimed } from './claimed.ts';
import type { Host, RanOn } from './host.ts';
import { requirePlace } from './place.ts';
import { runJob } from './run-job.ts';
import { judge } from './settle.ts';
import { StepClock } from './stages.ts';

export type Log = (line: string, details?: Record<string, unknown>) => void;

/**
 * How it ended for this host. `testbed`, `host` and `image` name what failed, and not the package. `on` is what it ran on,
 * if it came so far.
 */
export type Ending =
  | { readonly kind: 'completed'; readonly on?: RanOn }
  | { readonly kind: RetriedClass; readonly message: string; readonly on?: RanOn }
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
  try {
    if (!isRunId(claimed.runId)) return await refuse(claimed, log);
    const admitted = await admit(claimed, gate, signal);
    if (admitted === 'waits') {
      log(`${claimed.runId}: waits: goldbed why ${claimed.runId}`);
      return { kind: 'other' };
    }
    const folder = await openFolder(claimed, host);
    if (folder instanceof Error) return await settle(claimed, folder, host, undefined, log);
    await using _ = folder;
    return await attempt(claimed, admitted, host, folder, signal, log, run);
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
    requirePlace(claimed.key, request);
    return (await gate(claimed, request)) ? () => request : 'waits';
  } catch (error) {
    return () => {
      throw error;
    };
  }
}

async function openFolder(claimed: Claimed, host: Host): Promise<AttemptFolder | HostError> {
  try {
    return await openAttemptFolder(host.state, claimed.runId, claimed.attempt);
  } catch (error) {
    return new HostError(`its folder cannot be made: ${messageOf(error)}`, { cause: error });
  }
}

async function attempt(
  claimed: Claimed,
  admitted: () => JobRequest,
  host: Host,
  folder: AttemptFolder,
  signal: AbortSignal,
  log: Log,
  run: typeof runJob,
): Promise<Ending> {
  const clock = new StepClock();
  clock.add('queued', Math.max(0, (Date.now() - claimed.submitted) / 1000));
  const stop = AbortSignal.any([signal, folder.broken]);
  let on: RanOn | undefined;
  const opened = (image: RanOn): void => void (on = image);
  let outcome: Outcome;
  try {
    stop.throwIfAborted();
    const request = admitted();
    log(`${claimed.runId}: ${request.kind} on ${request.image}, attempt ${folder.attempt}`);
    const job = { runId: claimed.runId, host, folder, clock, opened };
    outcome = outcomeSchema.parse(await run(request, job, stop));
  } catch (thrown) {
    // what the job threw after its signal fired is only the echo of it
    const ending = await settle(claimed, stop.aborted ? stop.reason : thrown, host, folder, log);
    return ending.kind === 'other' || on === undefined ? ending : { ...ending, on };
  }
  return tell(claimed, outcome, folder, on, log);
}

/** There is an outcome: from here on nothing makes a failure of it. What cannot be told is in the journal. */
async function tell(
  claimed: Claimed,
  outcome: Outcome,
  folder: AttemptFolder,
  on: RanOn | undefined,
  log: Log,
): Promise<Ending> {
  write(folder, outcome, log);
  try {
    await claimed.complete(outcome);
  } catch (error) {
    // it may have been told after all, and only the answer was lost
    if (error instanceof LeaseLost) log(`${claimed.runId}: hands-off: ${error.message}`);
    else log(`${claimed.runId}: its outcome could not be told: ${messageOf(error)}`);
    return { kind: 'other' };
  }
  log(`${claimed.runId}: ${outcome.result.status}`);
  return { kind: 'completed', ...(on === undefined ? {} : { on }) };
}

/** @param folder undefined where it could not be made */
async function settle(
  claimed: Claimed,
  error: unknown,
  host: Host,
  folder: AttemptFolder | undefined,
  log: Log,
): Promise<Ending> {
  const verdict = judge(error);
  const message = messageOf(error);
  log(`${claimed.runId}: ${verdict.kind}: ${message}`);
  if (folder !== undefined) write(folder, { error: message }, log);
  switch (verdict.kind) {
    case 'retry':
      await retry(claimed, verdict.of, error, host);
      return { kind: verdict.of, message };
    case 'stop':
      await claimed.fail(failureError(failureOf(error), error), { retry: false });
      break;
    case 'give-back':
      await claimed.giveBack();
      break;
    case 'hands-off':
      break;
  }
  return { kind: 'other' };
}

/** While its budget lasts; then it fails for good, and tells where it was tried. */
async function retry(claimed: Claimed, of: RetriedClass, error: unknown, host: Host): Promise<void> {
  const failure = failureOf(error);
  const spent = await claimed.spend(of, host.name);
  const told = spent.left ? failure : { ...failure, message: usedUp(of, spent, failure.message) };
  await claimed.fail(failureError(told, error), { retry: spent.left });
}

/** For people, on this host: without it, Redis is told all the same. */
function write(folder: AttemptFolder, result: Outcome | { readonly error: string }, log: Log): void {
  try {
    folder.writeResult(result);
  } catch (error) {
    log(`result.json cannot be written: ${messageOf(error)}`);
  }
}

/** The entry may have been written by another program or another version. @throws {UsageError} */
function parseRequest(claimed: Claimed): JobRequest {
  const parsed = jobRequestSchema.safeParse(claimed.data);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const key = issue?.path.join('.') || 'request';
  throw new UsageError(key, `malformed queue entry: ${key}: ${issue?.message ?? 'invalid'}`);
}
