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

/**
 * `DOCKER_HOST` counts where it names a local socket: a testbed's files must be on this host.
 * @throws {ConfigError}
 */
export function dockerSettings(env: NodeJS.ProcessEnv, file: z.infer<typeof dockerSchema> | undefined): DockerSettings {
  const [, local] = /^unix:\/\/(\/.+)$/.exec(env['DOCKER_HOST'] ?? '') ?? [];
  const socket = env['GOLDBED_DOCKER_SOCKET'] || file?.socket || local || '/var/run/docker.sock';
  const network = env['GOLDBED_DOCKER_NETWORK'] || file?.network;
  return {
    socket,
    ...(network === undefined ? {} : { network }),
    init: flag(env, 'GOLDBED_DOCKER_INIT') ?? file?.init ?? false,
  };
}
