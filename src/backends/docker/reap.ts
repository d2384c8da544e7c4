/** What dead processes of ours left in the daemon: containers first, then the images that they were made of. */
import type Docker from 'dockerode';
import { isAlive, processIdentitySchema } from '../../exec/process-identity.ts';
import { within } from '../../exec/patience.ts';
import { TestbedError } from '../../protocol/errors.ts';
import { parseJson } from '../../protocol/json.ts';
import { connect, type DockerSettings } from './client.ts';
import { removeUnused } from './image.ts';
import { ownerLabel, sessionLabel } from './labels.ts';

/** Milliseconds altogether: a worker waits for it when it starts. */
const reapLimit = 60_000;

/**
 * A daemon that does not answer in time is left to the next clean-up, like one that is not there.
 * @param folder of the images
 */
export async function reapDaemon(settings: DockerSettings, folder: string): Promise<void> {
  const docker = await connect(settings, reapLimit);
  const late = new TestbedError('open', 'docker', 'no answer');
  try {
    await within(
      reapContainers(docker).then(() => removeUnused(docker, folder)),
      reapLimit,
      () => late,
    );
  } catch (error) {
    if (error !== late) throw error;
  }
}

/**
 * Containers of dead owners: those that could not remove themselves (a kept one, or one that never started). Whatever
 * hinders the removal of one, as a mount that is busy, must not save the others; the next clean-up tries again.
 */
async function reapContainers(docker: Docker): Promise<void> {
  const found = await docker.listContainers({ all: true, filters: { label: [sessionLabel] } });
  const left = found.filter(({ Labels }) => {
    const owner = processIdentitySchema.safeParse(parseJson(Labels[ownerLabel] ?? ''));
    return !(owner.success && isAlive(owner.data));
  });
  await Promise.allSettled(left.map(({ Id }) => docker.getContainer(Id).remove({ force: true, v: true })));
}
