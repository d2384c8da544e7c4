/**
 * The canary of an image: before a new generation is published, a small package is built and tested on it, by sbuild and
 * autopkgtest as any job does it. Its logs are in `canary-build/` and `canary-test/` of the attempt's folder.
 */
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { ArchiveSource } from '../protocol/job-request.ts';
import { GoldenRefusal } from '../protocol/testbed.ts';
import { closeLog, openSubfolder, type AttemptFolder } from './attempt-folder.ts';
import type { CandidateCheck } from './host.ts';
import { runBuild } from './run-build.ts';
import type { JobContext } from './run-job.ts';
import { testSubjects } from './run-test.ts';
import { serveSession, type ServedSession } from './served-session.ts';
import { StepClock } from './stages.ts';

/** @returns the check: it passes with the names of what it did @throws {GoldenRefusal} `commit-failed` why it did not */
export function canaryCheck(source: ArchiveSource, job: JobContext): CandidateCheck {
  return async (candidate, signal) => {
    const on = { ...job, image: candidate };
    job.clock.begin('canary-build');
    await using build = await within(on, 'canary-build');
    const built = await runBuild(
      { v: 1, kind: 'build', image: job.image.image, backend: 'any', source },
      build,
      signal,
    );
    const name = source.version === undefined ? source.package : `${source.package} ${source.version}`;
    if (built.exitCode !== 0)
      throw refused(`build of ${name}`, built.exitCode, await whyNot(build.folder), build.folder);
    job.clock.begin('canary-test');
    await using test = await within(on, 'canary-test');
    const names = await build.folder.listArtifacts();
    const changes = names.filter((each) => each.endsWith('.changes'));
    const subjects = [...changes.map((each) => path.join(build.folder.artifacts, each)), source.package];
    const tested = await testSubjects(subjects, test, signal);
    job.clock.end();
    if (!['pass', 'neutral'].includes(tested.status))
      throw refused(`autopkgtest of ${name}`, tested.exitCode, '', test.folder);
    return [`canary-build ${name}`, `canary-test ${name}${tested.status === 'neutral' ? ' (no tests)' : ''}`];
  };
}

/** The job as it is, but for its folder, its sessions and its clock. */
async function within(job: JobContext, name: string): Promise<JobContext & AsyncDisposable> {
  const folder = await openSubfolder(job.folder, name);
  const sessions: ServedSession[] = [];
  const { image, host, log } = job;
  const clock = new StepClock(); // what the canary does inside is one step of the job's
  return {
    ...job,
    folder,
    clock,
    async serve(signal) {
      const socket = `canary-${randomBytes(6).toString('hex')}`; // no longer than a job's own
      const served = await serveSession({ image, socketFolder: host.socketFolder, name: socket, clock, log }, signal);
      sessions.push(served);
      return served;
    },
    async [Symbol.asyncDispose]() {
      for (const session of sessions) await session[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

/** sbuild tells the stage in which it gave up: a package that cannot be fetched says nothing about the image. */
async function whyNot({ log, path: folder }: AttemptFolder): Promise<string> {
  await closeLog(log);
  const [, stage] = /^Fail-Stage: (\S+)$/m.exec(await readFile(path.join(folder, 'log'), 'utf8')) ?? [];
  if (stage === 'fetch-src') return ': its source could not be fetched';
  return stage === undefined ? '' : ` in ${stage}`;
}

function refused(what: string, code: number, why: string, folder: AttemptFolder): GoldenRefusal {
  const log = path.join(folder.path, 'log');
  return new GoldenRefusal('commit-failed', `canary: ${what} failed${why} (exit ${code}), see ${log}`);
}
