/** Making an image of what people have already: a tar file of a root file system, or a directory that is one. */
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { asRoot } from '../exec/as-root.ts';
import { check, CommandFailed } from '../exec/run.ts';
import { UsageError } from '../protocol/errors.ts';
import type { Argv } from '../protocol/testbed.ts';
import { manifestOfRoot } from './bootstrap.ts';
import type { Candidate } from './candidate.ts';
import { layoutOf } from './layout.ts';
import { versionIn } from './manifest.ts';
import { exists, newGeneration, type CreateTools, type FillRoot } from './new-generation.ts';
import { imported, type GenerationRecord, type Recipe } from './record.ts';
import { headGeneration } from './store.ts';

export interface ImportRequest {
  readonly name: string;
  /** A directory, or a file that tar(1) can read, compressed or not. */
  readonly from: string;
  /** Default: what the root says of itself. */
  readonly suite?: string;
}

/** @throws {UsageError} the image exists, or this is no root of a Debian system; {GoldenRefusal} locked */
export async function importImage(
  request: ImportRequest,
  tools: CreateTools,
  signal: AbortSignal,
): Promise<GenerationRecord> {
  const { name, from } = request;
  if ((await headGeneration(layoutOf(tools.store, name))) !== undefined) throw exists(name);
  const source = path.resolve(from);
  const found = await stat(source).catch(() => undefined);
  if (found === undefined) throw new UsageError(from, `${from}: no such file or directory`);
  const fillRoot: FillRoot = async (candidate, progress, stop) => {
    progress(`goldbed: importing ${from}`);
    await fill(candidate.layerDirectory, source, found.isDirectory(), stop);
    const manifest = await installed(candidate, from, stop);
    return { manifest, recipe: await recipeOf(candidate, manifest, request), sources: [], verified: [] };
  };
  return newGeneration(name, 'import', tools, fillRoot, signal);
}

/** Owners are kept by number, and so are extended attributes; device nodes are the backend's to give. */
async function fill(layer: string, source: string, isDirectory: boolean, signal: AbortSignal): Promise<void> {
  const keep = [
    '--numeric-owner',
    '--xattrs',
    '--xattrs-include=*',
    '--anchored',
    '--exclude=./dev/*',
    '--exclude=dev/*',
  ];
  const extract = ['/bin/tar', '--extract', `--directory=${layer}`, '--preserve-permissions', ...keep];
  const argv: Argv = isDirectory
    ? [
        ...(['/bin/bash', '-o', 'pipefail', '-c', '"${@:2:$1}" | "${@:2+$1}"', 'import'] as const),
        ...[
          '7',
          '/bin/tar',
          '--create',
          `--directory=${source}`,
          '--numeric-owner',
          '--xattrs',
          '--one-file-system',
          '.',
        ],
        ...extract,
      ]
    : (extract.concat(`--file=${source}`) as unknown as Argv);
  try {
    await check([...asRoot(), ...argv], { signal });
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof CommandFailed)) throw error;
    throw new UsageError(source, `${source}: ${error.stderr.trim().split('\n')[0] ?? 'cannot be read'}`, {
      cause: error,
    });
  }
}

async function installed({ layerDirectory }: Candidate, from: string, signal: AbortSignal): Promise<string> {
  const manifest = await manifestOfRoot(layerDirectory, signal).catch(() => '');
  if (versionIn(manifest, 'dpkg') !== undefined) return manifest;
  throw new UsageError(from, `${from}: not the root of a Debian system: dpkg is not installed in it`);
}

async function recipeOf({ layerDirectory }: Candidate, manifest: string, request: ImportRequest): Promise<Recipe> {
  const osRelease = await readFile(path.join(layerDirectory, 'usr/lib/os-release'), 'utf8').catch(() => '');
  const codename = /^VERSION_CODENAME=(\S+)$/m.exec(osRelease)?.[1];
  const suite = request.suite ?? codename;
  if (suite === undefined) throw new UsageError(request.from, `${request.from} does not tell its suite: --suite`);
  const arch = /^dpkg\t[^\t]*\t(\S+)/m.exec(manifest)?.[1] ?? '';
  return { suite, variant: imported, include: [], arch, components: [] };
}
