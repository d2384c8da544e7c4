/** external: any `autopkgtest-virt-*` program, or whatever else speaks adt-virt on its standard streams. */
import { cleanEnvironment } from '../exec/run.ts';
import { findExecutable } from '../exec/executable.ts';
import { startChildServer } from '../protocol/adt-virt/child-server.ts';
import { TestbedError } from '../protocol/errors.ts';
import type { VirtServer } from '../protocol/testbed.ts';

/**
 * It is the host's own configuration, and gets the caller's own environment: rootless podman finds its files by it, ssh its
 * agent, docker its daemon. What is no business of its is left out.
 * @param argv the program, searched in the usual folders if it has no slash, and its arguments
 */
export function externalServer(
  [program = '', ...args]: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): VirtServer {
  const find = (): string | undefined => findExecutable(program, cleanEnvironment['PATH'] ?? '');
  const env = withoutSecrets({ ...cleanEnvironment, ...environment });
  return {
    name: 'external',
    async unavailable() {
      return find() === undefined ? `${program} is not an executable of this host` : undefined;
    },
    async start(log, signal) {
      const file = find();
      if (file === undefined)
        throw new TestbedError('start', 'external', `${program} is not an executable of this host`);
      signal.throwIfAborted();
      const channel = await startChildServer([file, ...args], { log, env });
      if (signal.aborted) channel.terminate();
      signal.addEventListener('abort', channel.terminate, { once: true });
      void channel.exited.then(() => signal.removeEventListener('abort', channel.terminate));
      return channel;
    },
  };
}

/** The queue's address may hold its password: whoever has it can give this host any work. */
const secrets = new Set(['GOLDBED_REDIS_URL']);

function withoutSecrets(environment: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const pairs = Object.entries(environment).flatMap(([name, value]): [string, string][] =>
    value === undefined || secrets.has(name) ? [] : [[name, value]],
  );
  return Object.fromEntries(pairs);
}
