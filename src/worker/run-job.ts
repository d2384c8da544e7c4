/**
 * One job, from a validated request to its outcome: pin the generation, open the session, run the client, in that order,
 * closed in reverse. Returns how the package did; throws when the world failed. Knows no Redis.
 */
import path from 'node:path';
import { messageOf } from '../protocol/errors.ts';
import type { JobRequest } from '../protocol/job-request.ts';
import type { Outcome, OutcomeResult } from '../protocol/outcome.ts';
import { closeLog, type AttemptFolder } from './attempt-folder.ts';
import type { Host, OpenedImage, RanOn } from './host.ts';
import { keepBuildLog, runBuild } from './run-build.ts';
import { runTest } from './run-test.ts';
import { runUpdate } from './run-update.ts';
import { serveSession, type ServedSession } from './served-session.ts';
import type { StepClock } from './stages.ts';

export interface JobContext {
  readonly runId: string;
  readonly host: Host;
  readonly image: OpenedImage;
  readonly folder: AttemptFolder;
  readonly clock: StepClock;
  /** Diagnostics of the testbed, into the job's log. */
  readonly log: (line: string) => void;
  /** Serves the image to a client program; closed with the job. */
  serve(signal: AbortSignal): Promise<ServedSession>;
}

export async function runJob(
  request: JobRequest,
  job: Pick<JobContext, 'runId' | 'host' | 'folder' | 'clock'> & { readonly opened: (image: RanOn) => void },
  signal: AbortSignal,
): Promise<Outcome> {
  const { host, folder, clock } = job;
  await using image = await host.openImage(request.image, request.backend, { runId: job.runId, kind: request.kind });
  job.opened({ image: image.image, backend: image.backend, generation: image.generation?.generation });
  if (image.generation !== undefined) folder.noteGeneration(image.generation);
  const log = (line: string): void => void folder.log.write(`${line}\n`);
  const sessions: ServedSession[] = [];
  const context: JobContext = {
    ...job,
    image,
    log,
    async serve(stop) {
      const name = `${job.runId}-${folder.attempt}`;
      const session = await serveSession({ image, socketFolder: host.socketFolder, name, clock, log }, stop);
      sessions.push(session);
      return session;
    },
  };
  try {
    const result = await runKind(request, context, signal);
    clock.end();
    await finishLog(context, request);
    return await describe(result, context);
  } catch (error) {
    log(`goldbed: ${messageOf(error)}`);
    throw error;
  } finally {
    for (const session of sessions) await session[Symbol.asyncDispose]();
  }
}

function runKind(request: JobRequest, job: JobContext, signal: AbortSignal): Promise<OutcomeResult> {
  switch (request.kind) {
    case 'build':
      return runBuild(request, job, signal);
    case 'test':
      return runTest(request, job, signal);
    case 'update-golden':
      return runUpdate(request, job, signal);
  }
}

async function finishLog(job: JobContext, request: JobRequest): Promise<void> {
  await closeLog(job.folder.log);
  job.folder.broken.throwIfAborted();
  if (request.kind === 'build') await keepBuildLog(request, job, path.join(job.folder.path, 'log'));
}

async function describe(result: OutcomeResult, { image, host, folder, clock }: JobContext): Promise<Outcome> {
  const names = await folder.listArtifacts();
  const listed = names.slice(0, 20);
  return {
    v: 1,
    result,
    ...(image.generation === undefined ? {} : { generation: image.generation }),
    backend: image.backend,
    host: host.name,
    attempt: folder.attempt,
    steps: clock.steps(),
    artifacts: listed,
    more: names.length - listed.length,
  };
}
