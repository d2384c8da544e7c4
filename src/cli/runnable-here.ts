/** Where no worker is running, this host is all that there is: what it cannot run would wait for ever. */
import { HostError, TestbedError, UnavailableError } from '../protocol/errors.ts';
import type { JobRequest } from '../protocol/job-request.ts';
import { diskObstacle } from '../worker/free-disk.ts';
import { allowsBackend, requireAllowedImage } from './allowed.ts';
import type { Context } from './context.ts';
import { backendsOf, choose } from './make-host.ts';

/** @throws {UnavailableError} with what keeps it from running here */
export async function requireRunnableHere(context: Context, { image, backend }: JobRequest): Promise<void> {
  const obstacle = await obstacleHere(context, image, backend);
  if (obstacle !== undefined)
    throw new UnavailableError(`no worker is running, and this host cannot run it: ${obstacle}`);
}

async function obstacleHere(
  context: Context,
  image: string,
  backend: JobRequest['backend'],
): Promise<string | undefined> {
  const { settings, state } = context;
  try {
    requireAllowedImage(settings, image);
    if (settings.external[image] === undefined) await choose(backendsOf(context), backend);
    else if (!allowsBackend(settings, 'external')) return 'external servers are not among worker.backends';
  } catch (error) {
    if (error instanceof TestbedError || error instanceof HostError) return error.message;
    throw error;
  }
  return diskObstacle({ state, minFreeDisk: settings.worker.minFreeDisk });
}
