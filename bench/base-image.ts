/**
 * One base image for all: goldbed makes it with mmdebstrap and refreshes it once, so that it holds package lists; then its
 * content, as a session sees it, becomes a tarball and a directory for the stock servers.
 */
import { createWriteStream, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { check, ended, start } from '../src/exec/run.ts';
import type { Place } from './place.ts';

export const imageName = 'goldbed-bench';

export interface BaseImage {
  readonly suite: string;
  readonly arch: string;
  readonly tarball: string;
  /** Unpacked: schroot's. */
  readonly directory: string;
  /** Size of the tarball in bytes. */
  readonly megabytes: number;
}

const program = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
export const goldbed = program('../bin/goldbed');
export const goldbedServer = (backend: string): readonly string[] => [
  program('../bin/goldbed-virt'),
  backend,
  imageName,
];
export const wireClient = ['/usr/bin/perl', program('./wire-client.pl')] as const;

export async function makeBaseImage(place: Place, suite: string): Promise<BaseImage> {
  const { env, signal } = place;
  place.say(`making the base image (${suite}, mmdebstrap's buildd variant)`);
  await check([goldbed, 'image', 'create', imageName, '--suite', suite], { env, signal });
  await check([goldbed, 'image', 'update', imageName, '--wait'], { env, signal });
  const arch = (await check(['dpkg', '--print-architecture'], { signal })).stdout.trim();
  const tarball = path.join(place.disk, 'base.tar');
  // the session's own mounts are other file systems; its scratch folder is not
  await runInSession(place, 'open', tarScript, tarball);
  const directory = place.folder('chroot');
  await check(['tar', '--extract', '--numeric-owner', '--preserve-permissions', '--file', tarball], {
    cwd: directory,
    signal,
  });
  defineChroot(place, directory);
  const bytes = Number((await check(['stat', '--format=%s', tarball], { signal })).stdout);
  return { suite, arch, tarball, directory, megabytes: Math.round(bytes / 1e6) };
}

const tarScript =
  'exec tar --create --one-file-system --numeric-owner --exclude="./tmp/*" --exclude=./etc/resolv.conf -C / .';

/** Runs a shell script in a session of goldbed. `open-golden` keeps its changes as the next generation. */
export async function runInSession(
  { env, signal }: Place,
  verb: 'open' | 'open-golden',
  script: string,
  output: string,
): Promise<void> {
  const argv = [...wireClient, 'run', verb, script, ...goldbedServer('overlay')];
  const child = start(argv, ['ignore', 'pipe', 'pipe'], { env, signal });
  let complaint = '';
  child.stderr?.on('data', (chunk: Buffer) => (complaint = (complaint + chunk.toString()).slice(-2000)));
  child.stdout?.pipe(createWriteStream(output));
  const code = await ended(child, { signal });
  if (code !== 0) throw new Error(`goldbed-virt, ${verb}: exit ${code}: ${complaint.trim()}`);
}

function defineChroot(place: Place, directory: string): void {
  const lines = [
    `[${imageName}]`,
    'type=directory',
    `directory=${directory}`,
    'union-type=overlay',
    'profile=sbuild',
    ...['users', 'root-users', 'source-users', 'source-root-users'].map((who) => `${who}=root`),
  ];
  writeFileSync(path.join(place.chrootDefinitions, imageName), `${lines.join('\n')}\n`);
}
