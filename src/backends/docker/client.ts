/** A connection to a local docker daemon, or to podman's Docker-compatible socket. */
import { once } from 'node:events';
import { request, type IncomingMessage } from 'node:http';
import type Docker from 'dockerode';
import type { BackendSettings } from '../backend.ts';
import { messageOf } from '../../protocol/errors.ts';

export type DockerSettings = BackendSettings['docker'];

/**
 * The library is loaded by the first who needs it: most programs never do.
 * @param timeout milliseconds of silence after which a request fails; default: none
 */
export async function connect({ socket }: DockerSettings, timeout?: number): Promise<Docker> {
  const { default: Client } = await import('dockerode');
  return new Client({ socketPath: socket, ...(timeout === undefined ? {} : { timeout }) });
}

/** Milliseconds for a daemon's sign of life: one that hangs takes connections, and says nothing. */
const answerLimit = 5_000;

/** Why the daemon cannot be used, in one line that a person can act on; undefined when it can. */
export async function daemonUnavailable(settings: DockerSettings): Promise<string | undefined> {
  try {
    await ping(settings.socket);
    return undefined;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT')
      return `no docker socket at ${settings.socket}: apt-get install docker.io, or set docker.socket`;
    if (code === 'EACCES') return `no access to ${settings.socket}: be root or a member of its group (docker)`;
    if (code === 'ECONNREFUSED') return `nothing listens on ${settings.socket}: start the docker daemon`;
    if (code === 'ABORT_ERR' || (error as Error).name === 'AbortError')
      return `docker at ${settings.socket} does not answer within ${answerLimit / 1000} s: restart the daemon`;
    return `docker at ${settings.socket}: ${messageOf(error)}`;
  }
}

/** A worker asks before each claim: a client of the library takes many times as long to make as this takes altogether. */
async function ping(socketPath: string): Promise<void> {
  const signal = AbortSignal.timeout(answerLimit);
  const asked = request({ socketPath, path: '/_ping', agent: false, signal }).end();
  const [answer] = (await once(asked, 'response')) as [IncomingMessage];
  answer.resume();
  if (answer.statusCode !== 200) throw new Error(`it answers a ping with ${answer.statusCode}`);
}

/** Status of an answer of the daemon that was an error; undefined for any other error. */
export function statusOf(error: unknown): number | undefined {
  const { statusCode } = error as { statusCode?: unknown };
  return typeof statusCode === 'number' ? statusCode : undefined;
}
