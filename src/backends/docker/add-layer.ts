/**
 * A generation as one more layer on the image that the daemon has of the one before: what did not change is neither packed
 * nor sent. The layer is copied into the upper directory of a container that is never started, and the daemon makes an image
 * of that: its own driver turns whiteouts and opaque folders into its own. Times lose their fractions of a second on the way.
 *
 * Wherever that is not sure to give the whole of it, the answer is no, and all layers are imported as one (image.ts):
 * another driver or other user ids than ours (storage.ts), an upper directory that we do not see, and layers that hold what
 * the daemon leaves out (layer-content.ts).
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import type Docker from 'dockerode';
import { isRoot } from '../../exec/as-root.ts';
import { check } from '../../exec/run.ts';
import type { Change } from '../backend.ts';
import { statusOf } from './client.ts';
import { command, referenceOf, repository, settings, tagOf } from './daemon-image.ts';
import { isCarriedOver } from './layer-content.ts';
import { takesLayers, type DaemonInfo } from './storage.ts';

/** Layers of an image at the most, before a whole one is imported again: the daemon allows 125, and opens them all. */
const maxLayers = 16;

/**
 * Call it under a lock: there is one container for each folder.
 * @param tag of the new image
 * @param folder of the images: names the container, so that it is found if we are killed
 * @returns false when the image must be made in another way; nothing was made then
 * @throws the daemon's errors; CommandFailed when the copying fails, as on a full disk
 */
export async function addLayer(
  docker: Docker,
  { base, layer }: Change,
  tag: string,
  folder: string,
  signal: AbortSignal,
): Promise<boolean> {
  const below = referenceOf(tagOf(base));
  if (!isRoot() || !takesLayers((await docker.info()) as DaemonInfo)) return false;
  if (!(await hasRoom(docker, below)) || !(await isCarriedOver(layer, signal))) return false;
  await removeHelper(docker, folder);
  const container = await docker.createContainer({ name: helperName(folder), Image: below, Cmd: command });
  try {
    const { UpperDir: upper } = (await container.inspect()).GraphDriver.Data as { UpperDir?: string };
    if (upper === undefined || !existsSync(upper)) return false;
    await check(['/bin/sh', '-c', fill, 'sh', layer, upper], { signal });
    await container.commit({ repo: repository, tag, pause: false, changes: settings });
    return true;
  } finally {
    await forget(container);
  }
}

/** Device nodes and mount points are of the daemon's own making in each container. find follows no symbolic links. */
const fill = `cp --archive --preserve=xattr -- "$1/." "$2/" && cd "$2" || exit
for name in dev proc sys; do
  [ ! -d $name ] || find $name -mindepth 1 -delete || exit
done`;

/** What a killed {@link addLayer} left. Under the same lock. */
export async function removeHelper(docker: Docker, folder: string): Promise<void> {
  await forget(docker.getContainer(helperName(folder)));
}

async function hasRoom(docker: Docker, reference: string): Promise<boolean> {
  try {
    const { RootFS } = await docker.getImage(reference).inspect();
    return (RootFS?.Layers?.length ?? maxLayers) < maxLayers;
  } catch (error) {
    if (statusOf(error) === 404) return false;
    throw error;
  }
}

/** One for each state folder: several may use one daemon. */
function helperName(folder: string): string {
  return `goldbed-layer-${createHash('sha256').update(folder).digest('hex').slice(0, 16)}`;
}

async function forget(container: Docker.Container): Promise<void> {
  try {
    await container.remove({ force: true, v: true });
  } catch (error) {
    if (statusOf(error) !== 404) throw error;
  }
}
