/** external: any `autopkgtest-virt-*` program, or whatever else speaks adt-virt on its standard streams. */
import { cleanEnvironment } from '../exec/run.ts';
import { findExecutable } from '../exec/executable.ts';
import { startChildServer } from '../protocol/adt-virt/child-server.ts';
import { TestbedError } from '../protocol/errors.ts';
import type { VirtServer } from '../protocol/testbed.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** How it is started. */
export interface ExternalProgram {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/**
 * It is the host's own configuration, and gets the caller's own environment: rootless podman finds its files by it, ssh its
 * agent, docker its daemon. What is no business of its is left out.
 * @param argv the program, searched in the usual folders if it has no slash, and its arguments
 * @throws {TestbedError} when there is no such program
 */
export function externalProgram([program = '', ...args]: readonly string[], environment: Environment): ExternalProgram {
  const file = findExecutable(program, cleanEnvironment['PATH'] ?? '');
  if (file === undefined) throw new TestbedError('start', 'external', notThere(program));
  return { argv: [file, ...args], env: withoutSecrets({ ...cleanEnvironment, ...environment }) };
}

export function externalUnavailable([program = '']: readonly string[]): string | undefined {
  return findExecutable(program, cleanEnvironment['PATH'] ?? '') === undefined ? notThere(program) : undefined;
}

export function externalServer(server: readonly string[], environment: Environment): VirtServer {
  return {
    name: 'external',
    unavailable: async () => externalUnavailable(server),
    async start(log, signal) {
      const { argv, env } = externalProgram(server, environment);
      signal.throwIfAborted();
      const channel = await startChildServer(argv, { log, env });
      signal.addEventListener('abort', channel.terminate, { once: true });
      void channel.exited.then(() => signal.removeEventListener('abort', channel.terminate));
      if (signal.aborted) channel.terminate(); // while it was starting
      return channel;
    },
  };
}

function notThere(program: string): string {
  return `${program} is not an executable of this host`;
}

/** The queue's address may hold its password: whoever has it can give this host any work. */
const secrets = new Set(['GOLDBED_REDIS_URL']);

function withoutSecrets(environment: Environment): Record<string, string> {
  const pairs = Object.entries(environment).flatMap(([name, value]): [string, string][] =>
    value === undefined || secrets.has(name) ? [] : [[name, value]],
  );
  return Object.fromEntries(pairs);
}
