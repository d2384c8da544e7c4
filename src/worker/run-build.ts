/** A build job: Debian's sbuild, on a session of ours. */
import { copyFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { cleanEnvironment } from '../exec/run.ts';
import { TestbedError } from '../protocol/errors.ts';
import type { BuildRequest, Source } from '../protocol/job-request.ts';
import type { Size, Sizes } from '../protocol/size.ts';
import { depWait, type OutcomeResult } from '../protocol/outcome.ts';
import { runClient } from './client-program.ts';
import { MirrorWatch } from './mirror.ts';
import type { JobContext } from './run-job.ts';
import { sbuildStage } from './stages.ts';

/** Stages in which sbuild fails because of the testbed or the host, never because of the package (Sbuild/Build.pm). */
const infrastructureStages = new Set([
  'create-session',
  'lock-session',
  'create-build-dir',
  'chroot-arch',
  'check-space',
  'apt-get-update',
]);

export async function runBuild(request: BuildRequest, job: JobContext, signal: AbortSignal): Promise<OutcomeResult> {
  const { folder, image, host } = job;
  const source = await sourceArgument(request.source, job);
  const config = path.join(folder.path, 'sbuildrc');
  await writeFile(config, '1;\n'); // a person's ~/.sbuildrc must not change what a worker does
  const said = new Map<string, string>();
  const mirror = new MirrorWatch();
  const session = await job.serve(signal);
  const argv = [
    ...[host.clients.sbuild, '--chroot-mode=autopkgtest', `--autopkgtest-virt-server=${host.virtProgram}`],
    ...['--autopkgtest-virt-server-opt=attach', `--autopkgtest-virt-server-opt=${session.socketPath}`],
    ...['--nolog', `--dist=${image.suite}`, `--arch=${image.arch}`, `--build-dir=${folder.artifacts}`],
    // the image is what update-golden made it; a build does not upgrade it, and the testbed is thrown away whole
    ...['--no-apt-upgrade', '--no-apt-distupgrade', '--purge-build=never', '--purge-deps=never'],
    ...['--no-run-lintian', '--no-run-piuparts', '--no-run-autopkgtest'],
    ...parallel(request.size, host.sizes),
    ...['--', source],
  ];
  const exitCode = await runClient(
    {
      argv,
      cwd: folder.artifacts,
      env: { ...cleanEnvironment, HOME: folder.path, SBUILD_CONFIG: config },
      log: folder.log,
      clock: job.clock,
      stageOf: sbuildStage,
      onLine: (line) => {
        remember(line, said);
        mirror.see(line);
      },
    },
    signal,
  );
  await session.verify();
  const failStage = exitCode === 0 ? undefined : said.get('Fail-Stage');
  const infrastructure = infrastructureOf(failStage, request.source, mirror);
  if (infrastructure !== undefined) {
    throw new TestbedError('run', image.backend, `sbuild failed in ${failStage}${infrastructure}`);
  }
  if (failStage === 'install-deps') return { kind: 'build', exitCode, status: depWait };
  const status = said.get('Status') ?? (exitCode === 0 ? 'successful' : 'failed');
  return { kind: 'build', exitCode, status };
}

/**
 * As many jobs as the size has processors, where one was asked for; else dpkg-buildpackage takes all of the host. -J leaves it
 * to the package whether it can; sbuild's own --jobs is -j, which before dpkg 1.21.10 did not (dpkg-buildpackage(1)).
 */
function parallel(size: Size | undefined, sizes: Sizes): string[] {
  return size === undefined ? [] : [`--debbuildopt=-J${sizes[size].cpus}`];
}

/** More to say, or nothing, when a stage failed for reasons that are not the package's; else undefined. */
function infrastructureOf(stage: string | undefined, source: Source, mirror: MirrorWatch): string | undefined {
  if (stage === undefined) return undefined;
  if (infrastructureStages.has(stage)) return mirror.trouble === undefined ? '' : `: ${mirror.trouble}`;
  const asksMirror = stage === 'install-deps' || (stage === 'fetch-src' && source.type === 'archive');
  if (!asksMirror || mirror.trouble === undefined) return undefined;
  return `, but its mirror cannot be used: ${mirror.trouble}`;
}

/** Copies the log under the name by which people look for it: `hello_2.10-3_amd64.build`. After the log is closed. */
export async function keepBuildLog(
  { source }: BuildRequest,
  { folder, image }: JobContext,
  log: string,
): Promise<void> {
  const names = await folder.listArtifacts();
  const changes = names.find((name) => name.endsWith('.changes'));
  const version = source.version === undefined ? '' : `_${source.version.replace(/^\d+:/, '')}`;
  // a failed build has no .changes, and its log is what people want
  const name = changes?.replace(/\.changes$/, '') ?? `${source.package}${version}_${image.arch}`;
  await copyFile(log, path.join(folder.artifacts, `${name}.build`));
}

async function sourceArgument(source: Source, { folder, host }: JobContext): Promise<string> {
  if (source.type === 'dsc') return folder.takeInputs(source.files, source.main, host.state.artifacts);
  return source.version === undefined ? source.package : `${source.package}_${source.version}`;
}

/** The summary at the end of the log: `Status: attempted`, `Fail-Stage: build`. */
function remember(line: string, said: Map<string, string>): void {
  const [, field, value] = /^(Status|Fail-Stage): (\S+)$/.exec(line) ?? [];
  if (field !== undefined && value !== undefined) said.set(field, value);
}
