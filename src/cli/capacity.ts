/** What the jobs of this worker may take together. */
import { statfs } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import { ConfigError } from '../config/config-error.ts';
import { sizeNames, describeResources, fits, times, usualSize, type Resources } from '../protocol/size.ts';
import type { Context } from './context.ts';

const megabyte = 1024 * 1024;

/**
 * That of `worker.capacity`; without it, or with `slots` of the command line, as many jobs of the usual size as there are
 * slots. @throws {ConfigError} not even the smallest job fits
 */
export async function workerCapacity(context: Context, slots?: number): Promise<Resources> {
  const { worker, sizes } = context.settings;
  const given = slots === undefined ? worker.capacity : undefined;
  if (given === undefined) return times(sizes[usualSize], slots ?? worker.slots);
  const cpus = given.cpus ?? availableParallelism();
  const memory = given.memory ?? Math.floor(totalmem() / megabyte);
  const capacity = { cpus, memory, disk: given.disk ?? (await diskFor(context)) };
  if (sizeNames.some((size) => fits(sizes[size], capacity))) return capacity;
  const has = describeResources(capacity);
  throw new ConfigError(
    'worker.capacity',
    `worker.capacity: expected room for a job of some size, found ${has}; size s takes ${describeResources(sizes.s)}`,
  );
}

/** What is free now, but for what must stay so: jobs do not begin below that. */
async function diskFor({ state, settings }: Context): Promise<number> {
  const { bavail, bsize } = await statfs(state.root);
  return Math.max(0, Math.floor((bavail * bsize) / megabyte) - settings.worker.minFreeDisk);
}
