/** The servers that are compared, each as a command line that speaks adt-virt. */
import { existsSync } from 'node:fs';
import { goldbedServer, imageName, type BaseImage } from './base-image.ts';
import { startDocker } from './docker.ts';
import type { Place } from './place.ts';

export interface Server {
  readonly name: string;
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** A server that cannot run here, for the report. */
export interface Missing {
  readonly name: string;
  readonly why: string;
}

export interface Servers extends AsyncDisposable {
  readonly running: readonly Server[];
  readonly missing: readonly Missing[];
}

export const names = {
  goldbed: 'goldbed-virt overlay',
  goldbedSchroot: 'goldbed-virt schroot',
  goldbedDocker: 'goldbed-virt docker',
  schroot: 'autopkgtest-virt-schroot, directory + overlay',
  unshare: 'autopkgtest-virt-unshare, tarball, as root',
  docker: 'autopkgtest-virt-docker IMAGE -- --init',
} as const;

/** What each of ours is compared with. */
export const twins: Readonly<Record<string, readonly string[]>> = {
  [names.goldbed]: [names.schroot, names.unshare, names.docker],
  [names.goldbedSchroot]: [names.schroot],
  [names.goldbedDocker]: [names.docker],
};

export async function startServers(place: Place, base: BaseImage): Promise<Servers> {
  const { env } = place;
  const running: Server[] = [{ name: names.goldbed, argv: goldbedServer('overlay'), env }];
  const missing: Missing[] = [];
  const add = (name: string, argv: readonly string[], ...needed: readonly string[]): void => {
    const absent = [argv[0] ?? '', ...needed].filter((file) => !existsSync(file));
    if (absent.length === 0) running.push({ name, argv, env });
    else missing.push({ name, why: `not installed: ${absent.join(', ')}` });
  };
  add(names.schroot, ['/usr/bin/autopkgtest-virt-schroot', imageName], '/usr/bin/schroot');
  add(names.unshare, ['/usr/bin/autopkgtest-virt-unshare', '--tarball', base.tarball], '/usr/bin/newuidmap');
  add(names.goldbedSchroot, goldbedServer('schroot'), '/usr/bin/schroot');
  const server = '/usr/bin/autopkgtest-virt-docker';
  try {
    if (!existsSync(server)) throw new Error(`not installed: ${server}`);
    const docker = await startDocker(place, base);
    const argv = [server, imageName, '--', '--init', '--network=host'];
    running.push({ name: names.docker, argv, env: docker.env });
    const own = { ...env, GOLDBED_DOCKER_SOCKET: docker.socket, GOLDBED_DOCKER_NETWORK: 'host' };
    running.push({ name: names.goldbedDocker, argv: goldbedServer('docker'), env: own });
    return { running, missing, [Symbol.asyncDispose]: () => docker[Symbol.asyncDispose]() };
  } catch (error) {
    place.signal.throwIfAborted();
    missing.push({ name: names.docker, why: error instanceof Error ? error.message : String(error) });
    return { running, missing, [Symbol.asyncDispose]: async () => {} };
  }
}
