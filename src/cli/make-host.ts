/** Joins images and backends of this host for the worker. */
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { Backend } from '../backends/backend.ts';
import { overlayBackend } from '../backends/overlay/index.ts';
import { packageFile } from '../exec/package-file.ts';
import { imageSource, pinGeneration, refOf, type FenceSource } from '../golden/index.ts';
import { TestbedError } from '../protocol/errors.ts';
import type { Host } from '../worker/host.ts';
import type { Context } from './context.ts';

export interface HostParts {
  readonly host: Host;
  readonly backends: readonly Backend[];
}

/** @param leases the right to write images, in the name of a job */
export function makeHost(
  { settings, state }: Context,
  socketFolder: string,
  leases: (job: string) => FenceSource,
): HostParts {
  const overlay = overlayBackend(state);
  const host: Host = {
    name: hostname(),
    state,
    socketFolder,
    virtProgram: packageFile('bin/goldbed-virt'),
    minFreeDisk: settings.worker.minFreeDisk,
    keepGenerations: settings.images.keep,
    async openImage(image, _backend, { runId, kind }) {
      const backend = overlay; // `any` and `overlay` are the same here, as long as there is one
      const missing = await backend.unavailable();
      if (missing !== undefined) throw new TestbedError('start', backend.name, missing);
      const what = `${kind} ${runId}`;
      const pin = await pinGeneration(state, image, { sessionId: `job-${randomUUID()}`, what });
      const { record } = pin;
      const source = imageSource({
        store: state,
        image,
        backend,
        leases: leases(what),
        sessionId: randomUUID().replaceAll('-', ''),
        generation: record.generation,
        who: { by: what, job: runId, what },
      });
      return {
        source,
        generation: refOf(record),
        backend: backend.name,
        suite: record.recipe.suite,
        arch: record.recipe.arch,
        [Symbol.asyncDispose]: () => pin[Symbol.asyncDispose](),
      };
    },
  };
  return { host, backends: [overlay] };
}
