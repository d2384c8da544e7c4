/** A root file system from nothing: mmdebstrap's tar stream, unpacked as it comes. */
import { chmod, copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { asRoot, isRoot } from '../exec/as-root.ts';
import { isExecutable } from '../exec/executable.ts';
import { check, cleanEnvironment, ended, start } from '../exec/run.ts';
import { TestbedError } from '../protocol/errors.ts';
import { namedFiles } from './apt-options.ts';
import { ownKeyring, signedBy, sourcesList, type Source } from './apt-sources.ts';
import { manifestArguments, manifestOf } from './manifest.ts';
import type { Recipe } from './record.ts';
import { noAptCheck } from './verify.ts';

export const mmdebstrap = '/usr/bin/mmdebstrap';

export interface BootstrapPlan {
  readonly recipe: Recipe;
  readonly sources: readonly Source[];
  /** Who signs them: `Debian`. */
  readonly origin: string;
  /** For apt.conf, kept in the image. */
  readonly aptOptions: readonly string[];
}

/** What the customize hook below has seen pass in this root. */
export function bootstrapChecks(layer: string): string[] {
  return ['dpkg --audit', isExecutable(path.join(layer, 'usr/bin/apt-get')) ? 'apt-get check' : noAptCheck];
}

/**
 * Fills `layer`, an empty directory. `temporary` is a folder with room for it.
 * @param progress gets mmdebstrap's own lines
 * @throws {TestbedError} with mmdebstrap's last complaint
 */
export async function bootstrap(
  plan: BootstrapPlan,
  layer: string,
  temporary: string,
  progress: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const bootSources = sourcesList(plan.sources, ['deb'], signedBy('', plan.origin));
  // where mmdebstrap runs as a user of its namespace, only the common folder for temporary files is open to it
  const place = isRoot() ? { TMPDIR: temporary } : {};
  const env = { ...cleanEnvironment, ...place, GOLDBED_INCLUDE: plan.recipe.include.join(' ') };
  await unpack({ argv: mmdebstrapArguments(plan), sources: bootSources, env }, layer, progress, signal);
  await normalise(plan, layer);
}

/** Its installed packages (manifest.ts). */
export async function manifestOfRoot(root: string, signal: AbortSignal): Promise<string> {
  const argv = [...asRoot(), '/usr/bin/dpkg-query', `--admindir=${root}/var/lib/dpkg`, ...manifestArguments];
  return manifestOf((await check(argv, { signal })).stdout);
}

/** Nothing is published that did not pass these; they run inside, before mmdebstrap cleans up the package lists. */
const checkHook = [
  'chroot "$1" /bin/sh -ec',
  `'unset APT_CONFIG TMPDIR; complaints=$(dpkg --audit); test -z "$complaints" || { echo "$complaints"; exit 1; };`,
  `if command -v apt-get >/dev/null; then apt-get check; fi' >&2`,
].join(' ');

/** Before what is essential is set up, which takes most of the time: whether there is all that was asked for beside it. */
const includeHook =
  'set -f; APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get --simulate --quiet install -- $GOLDBED_INCLUDE >/dev/null';

function mmdebstrapArguments({ recipe, aptOptions }: BootstrapPlan): string[] {
  return [
    mmdebstrap,
    `--mode=${isRoot() ? 'root' : 'unshare'}`,
    `--variant=${recipe.variant}`,
    `--architectures=${recipe.arch}`,
    ...(recipe.include.length === 0 ? [] : [`--include=${recipe.include.join(',')}`, `--extract-hook=${includeHook}`]),
    ...aptOptions.map((option) => `--aptopt=${option}`),
    `--customize-hook=${checkHook}`,
    recipe.suite,
    '-', // the tar stream to standard output
    '-', // the sources from standard input
  ];
}

interface Making {
  readonly argv: readonly string[];
  /** For standard input. */
  readonly sources: string;
  readonly env: Readonly<Record<string, string>>;
}

async function unpack(
  { argv, sources, env }: Making,
  layer: string,
  progress: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const maker = start([...ownMounts(), ...argv], ['pipe', 'pipe', 'pipe'], { env, signal });
  maker.stdin?.on('error', () => {});
  maker.stdin?.end(sources);
  const complaint = lastComplaint(maker.stderr, progress);
  const tar = ['/bin/tar', '--extract', `--directory=${layer}`, '--numeric-owner', '--preserve-permissions'];
  // device nodes are the host's to give; a user namespace could not make them anyway
  const exclude = ['--xattrs', '--xattrs-include=*', '--anchored', '--exclude=./dev/*'];
  const unpacker = start([...asRoot(), ...tar, ...exclude], ['pipe', 'ignore', 'pipe'], { signal });
  let tarSaid = '';
  unpacker.stderr?.on('data', (chunk: Buffer) => (tarSaid += chunk.toString()));
  if (maker.stdout === null || unpacker.stdin === null) throw new Error('no pipes');
  const [made, unpacked] = await Promise.all([
    ended(maker, { signal, grace: 20_000 }),
    ended(unpacker, { signal }),
    pipeline(maker.stdout, unpacker.stdin).catch(() => {}), // the exit codes tell what went wrong
  ]);
  if (made === 0 && unpacked === 0) return;
  // either one's death ends the other; tar that merely complains about its input is not the culprit
  const tarFailed = unpacked !== 0 && !/Unexpected EOF|not look like a tar/.test(tarSaid);
  const [culprit, code, why] = tarFailed
    ? ['tar', unpacked, tarSaid.split('\n')[0]]
    : ['mmdebstrap', made, complaint()];
  throw new TestbedError('start', culprit, `${culprit}: ${why || `exit ${code}`}`);
}

/** As root, mmdebstrap mounts proc and sys in what it makes: were it killed, they would stay. So they go with its processes. */
function ownMounts(): string[] {
  return isRoot() ? ['/usr/bin/unshare', '--mount', '--propagation', 'private', '--'] : [];
}

/** Passes lines on, and remembers what a person has to know: the first error line of apt or mmdebstrap, else the last. */
function lastComplaint(stream: NodeJS.ReadableStream | null, progress: (line: string) => void): () => string {
  let rest = '';
  let first = '';
  let last = '';
  stream?.on('data', (chunk: Buffer) => {
    const lines = (rest + chunk.toString()).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      progress(line);
      if (first === '' && line.startsWith('E: ')) first = line.slice(3);
      if (line.trim() !== '') last = line.trim();
    }
  });
  return () => first || rest.trim() || last;
}

/**
 * What an image must not say about the host it was made on, and what every testbed needs to find in it. We own these
 * files, also when we are not root: uid 0 of the image is then ourselves.
 */
async function normalise(plan: BootstrapPlan, layer: string): Promise<void> {
  const at = (name: string): string => path.join(layer, name);
  await rm(at('etc/resolv.conf'), { force: true });
  await writeFile(at('etc/resolv.conf'), '', { mode: 0o644 }); // the backend mounts the host's over it
  await writeFile(at('etc/hostname'), 'localhost\n', { mode: 0o644 });
  await writeFile(at('etc/apt/sources.list'), imageSources(plan, layer), { mode: 0o644 });
  for (const file of namedFiles(plan.aptOptions)) {
    await mkdir(path.dirname(at(file)), { recursive: true });
    await copyFile(file, at(file));
  }
  await mkdir(at('dev/pts'), { recursive: true });
  await mkdir(at('dev/shm'), { recursive: true });
  await chmod(at('dev/shm'), 0o1777);
}

/** With the `deb-src` lines that bootstrapping did not need. */
function imageSources(plan: BootstrapPlan, layer: string): string {
  return sourcesList(plan.sources, ['deb', 'deb-src'], ownKeyring(layer, plan.origin));
}
