/** What the docker backend is told: the daemon, and what its containers may. */
import * as z from 'zod';
import { flag } from './environment.ts';

export const dockerSchema = z.strictObject({
  /** The daemon's unix socket, or podman's. */
  socket: z.string().startsWith('/', 'expected an absolute path').optional(),
  /** Network of the testbeds, as `docker run --network` takes it. */
  network: z.string().min(1).optional(),
  /** Boots the init of an image that has one, so that tests can start services. */
  init: z.boolean().optional(),
});

export interface DockerSettings {
  readonly socket: string;
  readonly network?: string;
  readonly init: boolean;
}

/** The socket that `DOCKER_HOST` names; it counts where that is a local one: a testbed's files must be on this host. */
export function dockerHostSocket(env: NodeJS.ProcessEnv): string | undefined {
  return /^unix:\/\/(\/.+)$/.exec(env['DOCKER_HOST'] ?? '')?.[1];
}

/** @throws {ConfigError} */
export function dockerSettings(env: NodeJS.ProcessEnv, file: z.infer<typeof dockerSchema> | undefined): DockerSettings {
  const socket = env['GOLDBED_DOCKER_SOCKET'] || file?.socket || dockerHostSocket(env) || '/var/run/docker.sock';
  const network = env['GOLDBED_DOCKER_NETWORK'] || file?.network;
  return {
    socket,
    ...(network === undefined ? {} : { network }),
    init: flag(env, 'GOLDBED_DOCKER_INIT') ?? file?.init ?? false,
  };
}
