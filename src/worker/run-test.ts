/** A test job: Debian's autopkgtest, on a session of ours. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { cleanEnvironment } from '../exec/run.ts';
import { TestbedError } from '../protocol/errors.ts';
import type { Subject, TestRequest } from '../protocol/job-request.ts';
import { depWait, type OutcomeResult } from '../protocol/outcome.ts';
import { BadpkgWatch } from './badpkg.ts';
import { runClient } from './client-program.ts';
import { fetchSource } from './fetch-source.ts';
import type { JobContext } from './run-job.ts';
import { autopkgtestStage } from './stages.ts';

/** autopkgtest's exit codes as debci reads them; 16 and 20 are the testbed's failure (autopkgtest(1), EXIT STATUS). */
const statusOf: Readonly<Record<number, string>> = {
  0: 'pass',
  2: 'pass',
  4: 'fail',
  6: 'fail',
  8: 'neutral',
  12: 'fail',
  14: 'fail',
};

type Verdict = Extract<OutcomeResult, { kind: 'build' | 'test' }>;

export async function runTest(request: TestRequest, job: JobContext, signal: AbortSignal): Promise<OutcomeResult> {
  const subjects = await subjectArguments(request.subject, job, signal);
  // where a size was asked for; else autopkgtest tells its tests and builds of all processors of the host
  const options = request.size === undefined ? [] : [`--build-parallel=${job.host.sizes[request.size].cpus}`];
  return testSubjects([...options, ...subjects], job, signal);
}

/** @param subjects as autopkgtest takes them, with options of their own */
export async function testSubjects(
  subjects: readonly string[],
  job: JobContext,
  signal: AbortSignal,
): Promise<Verdict> {
  const { folder, image, host } = job;
  const began = Date.now();
  const session = await job.serve(signal);
  const argv = [
    ...[job.host.clients.autopkgtest, `--output-dir=${folder.artifacts}`, '--setup-commands=apt-get --quiet update'],
    ...[...subjects, '--', host.virtProgram, 'attach', session.socketPath],
  ];
  const badpkg = new BadpkgWatch();
  const exitCode = await runClient(
    {
      argv,
      cwd: folder.path,
      env: { ...cleanEnvironment, HOME: folder.path },
      log: folder.log,
      clock: job.clock,
      stageOf: autopkgtestStage,
      onLine: (line) => badpkg.see(line),
    },
    signal,
  );
  await session.verify();
  const erroneous = exitCode === 12 || exitCode === 14;
  const infrastructure = erroneous ? badpkg.infrastructure() : undefined;
  if (infrastructure !== undefined) throw new TestbedError('run', image.backend, infrastructure);
  const status = erroneous && badpkg.depWait ? depWait : statusOf[exitCode];
  if (status === undefined) throw new TestbedError('run', image.backend, `autopkgtest ended with ${exitCode}`);
  const seconds = Math.round((Date.now() - began) / 1000);
  await writeFile(path.join(folder.artifacts, 'exitcode'), `${exitCode}\n`);
  await writeFile(path.join(folder.artifacts, 'duration'), `${seconds}\n`);
  return { kind: 'test', exitCode, status };
}

async function subjectArguments(subject: Subject, job: JobContext, signal: AbortSignal): Promise<string[]> {
  const { folder, host } = job;
  switch (subject.type) {
    case 'dsc':
      return [await folder.takeInputs(subject.files, subject.main, host.state.artifacts)];
    case 'archive':
      // autopkgtest fetches a name by itself, but knows no versions
      if (subject.version === undefined) return [subject.package];
      return [await fetchSource(subject.package, subject.version, job, signal)];
    case 'changes': {
      const main = await folder.takeInputs(subject.files, subject.main, host.state.artifacts);
      if (subject.source !== undefined) return [main, path.join(folder.input, subject.source)];
      // a .changes without a source has no tests in it: then those of the archive
      return subject.files.some(({ name }) => name.endsWith('.dsc')) ? [main] : [main, subject.package];
    }
  }
}
