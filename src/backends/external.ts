/** external: any `autopkgtest-virt-*` program, or whatever else speaks adt-virt on its standard streams. */
import { cleanEnvironment } from '../exec/run.ts';
import { findExecutable } from '../exec/executable.ts';
import { startChildServer } from '../protocol/adt-virt/child-server.ts';
import { TestbedError } from '../protocol/errors.ts';
import type { VirtServer } from '../protocol/testbed.ts';

/** @param argv the program, searched in the usual folders if it has no slash, and its arguments */
export function externalServer([program = '', ...args]: readonly string[]): VirtServer {
  const find = (): string | undefined => findExecutable(program, cleanEnvironment['PATH'] ?? '');
  return {
    name: 'external',
    async unavailable() {
      return find() === undefined ? `${program} is not an executable of this host` : undefined;
    },
    async start(log, signal) {
      const file = find();
      if (file === undefined)
        throw new TestbedError('start', 'external', `${program} is not an executable of this host`);
      const channel = await startChildServer([file, ...args], { log });
      signal.addEventListener('abort', channel.terminate, { once: true });
      void channel.exited.then(() => signal.removeEventListener('abort', channel.terminate));
      return channel;
    },
  };
}
