/** An update-golden job: our own client, on the golden verbs; or a bootstrap anew. */
import { updateByReplacing, updateImage } from '../golden/index.ts';
import { Session } from '../protocol/adt-virt/session.ts';
import { ImageError, UsageError } from '../protocol/errors.ts';
import { archiveSource, type UpdateRequest } from '../protocol/job-request.ts';
import type { OutcomeResult } from '../protocol/outcome.ts';
import { GoldenRefusal } from '../protocol/testbed.ts';
import type { CandidateCheck } from './host.ts';
import { removeOld } from './remove-old.ts';
import { canaryCheck } from './run-canary.ts';
import type { JobContext } from './run-job.ts';

export async function runUpdate(request: UpdateRequest, job: JobContext, signal: AbortSignal): Promise<OutcomeResult> {
  try {
    const check = checkOf(request, job);
    const result =
      request.strategy === 'replace'
        ? await replace(request, job, check, signal)
        : await upgrade(request, job, check, signal);
    if (result.status === 'published') await removeOld(request.image, job, signal);
    return result;
  } catch (error) {
    // somebody else writes, or wrote: the next attempt works on what is current then
    if (error instanceof GoldenRefusal) throw new ImageError(error.message, { cause: error });
    throw error;
  }
}

/** The canary that was asked for, else that of the host's configuration. */
function checkOf(request: UpdateRequest, job: JobContext): CandidateCheck | undefined {
  if (request.canary !== undefined) return canaryCheck(request.canary, job);
  const word = job.host.canaryOf(request.image);
  return word === undefined ? undefined : canaryCheck(archiveSource(word), job);
}

type UpdateResult = Extract<OutcomeResult, { kind: 'update-golden' }>;

async function replace(
  { image }: UpdateRequest,
  { runId, host, clock, log }: JobContext,
  check: CandidateCheck | undefined,
  signal: AbortSignal,
): Promise<UpdateResult> {
  clock.begin('bootstrap');
  return updateByReplacing(image, await host.makingTools(image, runId, log, check), signal);
}

async function upgrade(
  request: Extract<UpdateRequest, { strategy: 'upgrade' }>,
  job: JobContext,
  check: CandidateCheck | undefined,
  signal: AbortSignal,
): Promise<UpdateResult> {
  const { image, host, folder, clock } = job;
  const refusal = listenForRefusal(job.log);
  const channel = await image.start(refusal.log, signal, check);
  await using session = await Session.start(channel, { backend: image.backend });
  if (!(await session.capabilities()).includes('golden-image')) {
    throw new UsageError(request.backend, `the backend ${image.backend} has no golden image to write`);
  }
  const update = {
    store: host.state,
    image: request.image,
    session,
    letters: request.steps,
    by: `job ${job.runId}`,
    job: job.runId,
    refusal: refusal.said,
    log: (text: string) => void folder.log.write(text),
  };
  const { result, steps } = await updateImage(update, signal);
  for (const { name, seconds } of steps) clock.add(name, seconds);
  await session.quit();
  return result;
}

/** The server tells why on its standard error (server.ts). */
function listenForRefusal(log: (line: string) => void): {
  readonly log: (line: string) => void;
  readonly said: () => string | undefined;
} {
  let said: string | undefined;
  return {
    log(line) {
      said = /^goldbed-virt: commit-failed: (.*)$/.exec(line)?.[1] ?? said;
      log(line);
    },
    said: () => said,
  };
}
