/** What happens to one claimed job: parse, open its folder, run, and settle by the one switch. Each ends here, once. */
import { readdir } from 'node:fs/promises';
import { messageOf, UsageError } from '../protocol/errors.ts';
import { failureError, failureOf } from '../protocol/failure.ts';
import { jobRequestSchema, type JobRequest } from '../protocol/job-request.ts';
import { openAttemptFolder, runFolder, type AttemptFolder } from './attempt-folder.ts';
import type { Claimed } from './claims.ts';
import type { Host } from './host.ts';
import { runJob } from './run-job.ts';
import { judge } from './settle.ts';
import { StepClock } from './stages.ts';

export type Log = (line: string, details?: Record<string, unknown>) => void;

/** Never rejects: whatever happens to one job must not stop the worker. */
export async function handle(claimed: Claimed, host: Host, signal: AbortSignal, log: Log): Promise<void> {
  const clock = new StepClock();
  clock.add('queued', Math.max(0, (Date.now() - claimed.submitted) / 1000));
  try {
    await using folder = await openAttemptFolder(host.state, claimed.runId, await nextAttempt(host, claimed.runId));
    await attempt(claimed, host, folder, clock, signal, log);
  } catch (error) {
    log(`${claimed.runId}: cannot be settled: ${messageOf(error)}`);
  }
}

async function attempt(
  claimed: Claimed,
  host: Host,
  folder: AttemptFolder,
  clock: StepClock,
  signal: AbortSignal,
  log: Log,
): Promise<void> {
  try {
    signal.throwIfAborted();
    const request = parseRequest(claimed);
    log(`${claimed.runId}: ${request.kind} on ${request.image}, attempt ${folder.attempt}`);
    const outcome = await runJob(request, { runId: claimed.runId, host, folder, clock }, signal);
    await folder.writeResult(outcome);
    await claimed.complete(outcome);
    log(`${claimed.runId}: ${outcome.result.status}`);
  } catch (thrown) {
    // what the job threw after its signal fired is only the echo of it
    await settle(claimed, signal.aborted ? signal.reason : thrown, folder, log);
  }
}

async function settle(claimed: Claimed, error: unknown, folder: AttemptFolder, log: Log): Promise<void> {
  const verdict = judge(error);
  const message = messageOf(error);
  log(`${claimed.runId}: ${verdict.kind}: ${message}`);
  await folder.writeResult({ error: message });
  switch (verdict.kind) {
    case 'retry':
    case 'stop':
      return claimed.fail(failureError(failureOf(error), error), { retry: verdict.kind === 'retry' });
    case 'give-back':
      return claimed.giveBack();
    case 'hands-off':
      return undefined;
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

/** Attempts count what is on disk, so that an attempt that was lost keeps its folder. */
async function nextAttempt(host: Host, runId: string): Promise<number> {
  const names = await readdir(runFolder(host.state, runId)).catch(() => []);
  return Math.max(0, ...names.map(Number).filter(Number.isInteger)) + 1;
}
