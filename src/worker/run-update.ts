/** An update-golden job: our own client, on the golden verbs. */
import { collect, updateImage } from '../golden/index.ts';
import { Session } from '../protocol/adt-virt/session.ts';
import { messageOf, TestbedError, UsageError } from '../protocol/errors.ts';
import type { UpdateRequest } from '../protocol/job-request.ts';
import type { OutcomeResult } from '../protocol/outcome.ts';
import { GoldenRefusal } from '../protocol/testbed.ts';
import type { JobContext } from './run-job.ts';

export async function runUpdate(request: UpdateRequest, job: JobContext, signal: AbortSignal): Promise<OutcomeResult> {
  const { image, host, folder, clock } = job;
  const channel = await image.start(job.log, signal);
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
    log: (text: string) => void folder.log.write(text),
  };
  try {
    const { result, steps } = await updateImage(update, signal);
    for (const { name, seconds } of steps) clock.add(name, seconds);
    await session.quit();
    if (result.status === 'published') await removeOld(request.image, job, signal);
    return result;
  } catch (error) {
    // somebody else writes, or wrote: the image is fine, and the next attempt works on what is current then
    if (error instanceof GoldenRefusal)
      throw new TestbedError('commit', image.backend, error.message, { cause: error });
    throw error;
  }
}

/** What cannot be removed now is found by the next update: the new generation stands. */
async function removeOld(image: string, { host, log }: JobContext, signal: AbortSignal): Promise<void> {
  try {
    const removed = await collect(host.state, image, { keep: host.keepGenerations, signal });
    if (removed.length > 0) log(`goldbed: removed generations ${removed.join(', ')}`);
  } catch (error) {
    log(`goldbed: cannot remove old generations: ${messageOf(error)}`);
  }
}
