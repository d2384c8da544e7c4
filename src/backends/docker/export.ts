/** The root file system of an image of the daemon, as a tar file: for those who have images there already. */
import { createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { UsageError } from '../../protocol/errors.ts';
import { connect, statusOf, type DockerSettings } from './client.ts';
import { ownLabels } from './labels.ts';

/** @param reference as docker names it: `debian:sid` @throws {UsageError} when the daemon has no such image */
export async function exportDockerImage(
  settings: DockerSettings,
  reference: string,
  file: string,
  signal: AbortSignal,
): Promise<void> {
  const docker = await connect(settings);
  try {
    // never started: a container is only the daemon's way to give the files away
    const container = await docker.createContainer({
      Image: reference,
      Cmd: ['/bin/true'],
      Labels: ownLabels('import'),
    });
    try {
      await pipeline(await container.export(), createWriteStream(file, { mode: 0o600 }), { signal });
    } finally {
      await container.remove({ force: true, v: true });
    }
  } catch (error) {
    if (statusOf(error) !== 404) throw error;
    throw new UsageError(
      `docker:${reference}`,
      `the docker daemon has no image ${reference}: docker pull ${reference}`,
    );
  }
}
