/**
 * A docker daemon of our own, with the base image in it. Without bridge and packet filter, which many test machines lack:
 * containers use the host's network. Where no dockerd is installed, Debian's packages are unpacked beside the bench.
 */
import { type ChildProcess } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import path from 'node:path';
import { check, run, start } from '../src/exec/run.ts';
import { imageName, type BaseImage } from './base-image.ts';
import type { Place } from './place.ts';

export interface Docker extends AsyncDisposable {
  /** In which `docker` finds the daemon by its context: with DOCKER_HOST, the stock server would do without folders. */
  readonly env: Readonly<Record<string, string>>;
  readonly version: string;
  /** The daemon's, absolute. */
  readonly socket: string;
}

/** @throws {Error} why there is no docker here */
export async function startDocker(place: Place, base: BaseImage): Promise<Docker> {
  const programs = await findPrograms(place);
  const socket = `unix://${place.folder('docker')}/docker.sock`;
  const env = { ...place.env, PATH: programs.path, DOCKER_CONFIG: place.folder('docker/config') };
  const child = startDaemon(place, { ...env, TMPDIR: place.folder('docker/tmp') }, socket, programs.init);
  const stop = (): Promise<void> => stopDaemon(child);
  try {
    await answering(child, [...['docker', '--host', socket], 'version'], env, place.signal);
    const context = ['docker', 'context', 'create', imageName, '--docker', `host=${socket}`];
    await check(context, { env, signal: place.signal });
    await check(['docker', 'context', 'use', imageName], { env, signal: place.signal });
    await check(['docker', 'import', base.tarball, imageName], { env, signal: place.signal });
    const format = ['version', '--format', '{{.Server.Version}}'];
    const version = (await check(['docker', ...format], { env, signal: place.signal })).stdout.trim();
    return { env, version, socket: socket.slice('unix://'.length), [Symbol.asyncDispose]: stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function startDaemon(
  place: Place,
  env: Readonly<Record<string, string>>,
  socket: string,
  init: string | undefined,
): ChildProcess {
  const folders = [`--data-root=${place.folder('docker/data')}`, `--exec-root=${place.folder('docker/exec')}`];
  const argv = [
    ...['setpriv', '--pdeathsig', 'TERM', '--', 'dockerd', '--host', socket, ...folders],
    ...[`--pidfile=${place.folder('docker')}/docker.pid`, '--iptables=false', '--ip6tables=false', '--bridge=none'],
    ...(init === undefined ? [] : [`--init-path=${init}`]),
  ];
  const child = start(argv, ['ignore', 'ignore', 'pipe'], { env });
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-4000)));
  child.once('exit', () => errors.set(child, said.trim().split('\n').at(-1) ?? ''));
  child.once('error', (error) => errors.set(child, error.message));
  return child;
}

const errors = new WeakMap<ChildProcess, string>();

async function answering(
  child: ChildProcess,
  question: readonly string[],
  env: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<void> {
  for (let attempt = 0; attempt < 300; attempt += 1) {
    const error = errors.get(child);
    if (error !== undefined) throw new Error(`dockerd: ${error}`);
    if ((await run(question, { env, signal })).code === 0) return;
    await sleep(100, undefined, { signal });
  }
  throw new Error('dockerd did not answer within 30 s');
}

async function stopDaemon(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || errors.has(child)) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 30_000);
  await ended;
  clearTimeout(timer);
}

/** Those of the host, if there are any; else downloaded, unpacked and left uninstalled. */
async function findPrograms(place: Place): Promise<{ path: string; init: string | undefined }> {
  const hostPath = place.env['PATH'] ?? '';
  if (hostPath.split(':').some((folder) => existsSync(path.join(folder, 'dockerd')))) {
    return { path: hostPath, init: undefined };
  }
  place.say('no dockerd on this host: downloading and unpacking docker.io, containerd, runc and tini');
  const folder = place.folder('docker/packages');
  const options = { cwd: folder, env: place.env, signal: place.signal };
  const sandbox = ['-o', 'APT::Sandbox::User=root'];
  await check(['apt-get', ...sandbox, 'download', 'docker.io', 'containerd', 'runc', 'tini'], options);
  for (const name of readdirSync(folder).filter((each) => each.endsWith('.deb'))) {
    await check(['dpkg-deb', '--extract', name, folder], options);
  }
  const at = (name: string): string => path.join(folder, name);
  const init = ['usr/bin/tini-static', 'usr/libexec/docker/docker-init'].map(at).find((file) => existsSync(file));
  return { path: [at('usr/sbin'), at('usr/bin'), hostPath].join(':'), init };
}
