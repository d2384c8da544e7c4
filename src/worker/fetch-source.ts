/** Fetches a certain version of a source package inside a testbed, from the image's own deb-src lines. */
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { run } from '../exec/run.ts';
import { Session } from '../protocol/adt-virt/session.ts';
import { TestbedError, UsageError } from '../protocol/errors.ts';
import { isUnknownSource } from './mirror.ts';
import type { JobContext } from './run-job.ts';

/**
 * @returns the .dsc in the attempt's input folder. @throws {UsageError} when the image's archive has no such version;
 * {TestbedError} when the archive cannot be asked
 */
export async function fetchSource(
  name: string,
  version: string,
  job: JobContext,
  signal: AbortSignal,
): Promise<string> {
  const { image, folder } = job;
  job.clock.begin('fetch');
  const channel = await image.start(job.log, signal);
  await using session = await Session.start(channel, { backend: image.backend });
  const scratch = await session.open();
  const prefix = await session.executeCommand();
  const target = `${scratch}/source`;
  const steps = [
    ['/bin/mkdir', target],
    // an apt before 2.1 does not know the option, and takes lists that it could not get for none (apt.conf(5))
    ['/usr/bin/apt-get', '--quiet', '-o', 'APT::Update::Error-Mode=any', 'update'],
    [
      '/usr/bin/env',
      '-C',
      target,
      'apt-get',
      '--quiet',
      'source',
      '--download-only',
      '--only-source',
      `${name}=${version}`,
    ],
  ];
  for (const step of steps) {
    const done = await run([...prefix, ...step], { signal, onOutput: (chunk) => folder.log.write(chunk) });
    if (done.code === 0) continue;
    const reason = done.stderr.trim().split('\n').at(-1) ?? `exit ${done.code}`;
    const message = `${name}=${version}: cannot be fetched on ${image.image}: ${reason}`;
    if (isUnknownSource(done.stderr)) throw new UsageError(`${name}=${version}`, message);
    throw new TestbedError('run', image.backend, message);
  }
  await session.copyUp(`${target}/`, `${folder.input}/`);
  await session.close();
  await session.quit();
  job.clock.end();
  const dsc = (await readdir(folder.input)).find((file) => file.endsWith('.dsc'));
  if (dsc === undefined) throw new UsageError(`${name}=${version}`, `${name}=${version}: no .dsc was downloaded`);
  return path.join(folder.input, dsc);
}
