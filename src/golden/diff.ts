/** How two generations of an image differ, package by package. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { inMergedTree } from '../backends/layers/merged.ts';
import { check } from '../exec/run.ts';
import { layoutOf, type ImageLayout, type ImageStore } from './layout.ts';
import { installedBytes } from './manifest.ts';
import type { GenerationRecord } from './record.ts';
import { contentOf } from './stack.ts';
import { readGeneration, readHead, readManifest, readParentManifest } from './store.ts';

export interface PackageVersion {
  readonly name: string;
  readonly arch: string;
  readonly version: string;
  /** It is what the security archive has, as far as the generation's own package lists tell. */
  readonly security?: true;
}

export interface PackageDiff {
  readonly added: readonly PackageVersion[];
  readonly removed: readonly PackageVersion[];
  /** `from` is the version before. */
  readonly changed: readonly (PackageVersion & { readonly from: string })[];
}

/** One side of a comparison. */
export interface DiffedGeneration extends Pick<GenerationRecord, 'image' | 'generation'> {
  /** Bytes that its packages take; undefined where its manifest does not tell. */
  readonly installed: number | undefined;
}

export interface GenerationDiff extends PackageDiff {
  readonly from: DiffedGeneration;
  readonly to: DiffedGeneration;
  /** What the installed packages take, after less before. */
  readonly bytes: number | undefined;
}

/**
 * @param from default: the parent of `to`, which may be gone
 * @param to default: the current one
 * @throws {UsageError} when there is no such image or generation
 */
export async function diffGenerations(
  store: ImageStore,
  image: string,
  from: number | undefined,
  to: number | undefined,
  signal: AbortSignal,
): Promise<GenerationDiff> {
  const layout = layoutOf(store, image);
  const after = to === undefined ? await readHead(store, image) : await readGeneration(layout, to);
  const before = from ?? after.parent ?? after.generation;
  const [old, now] = [await manifestBefore(layout, after, before), await readManifest(layout, after.generation)];
  const security = await securityVersions(contentOf(layout, after).layers, signal);
  const side = (generation: number, manifest: string): DiffedGeneration => ({
    image: layout.image,
    generation,
    installed: installedBytes(manifest),
  });
  const sides = { from: side(before, old), to: side(after.generation, now) };
  const known = sides.from.installed !== undefined && sides.to.installed !== undefined;
  const bytes = known ? Number(sides.to.installed) - Number(sides.from.installed) : undefined;
  return { ...sides, ...diffManifests(old, now, security), bytes };
}

/** @throws {UsageError} when the generation is gone, unless it is the parent, whose packages are remembered */
async function manifestBefore(layout: ImageLayout, after: GenerationRecord, before: number): Promise<string> {
  const remembered = before === after.parent ? await readParentManifest(layout, after.generation) : undefined;
  if (remembered !== undefined) return remembered;
  const { generation } = await readGeneration(layout, before);
  return readManifest(layout, generation);
}

/** @param security `name version` of what comes from the security archive */
export function diffManifests(before: string, after: string, security: ReadonlySet<string> = new Set()): PackageDiff {
  const [old, now] = [packagesOf(before), packagesOf(after)];
  const marked = (one: PackageVersion): PackageVersion =>
    security.has(`${one.name} ${one.version}`) ? { ...one, security: true } : one;
  const added: PackageVersion[] = [];
  const changed: (PackageVersion & { from: string })[] = [];
  for (const [key, one] of now) {
    const previous = old.get(key);
    if (previous === undefined) added.push(marked(one));
    else if (previous.version !== one.version) changed.push({ ...marked(one), from: previous.version });
  }
  const removed = [...old].filter(([key]) => !now.has(key)).map(([, one]) => one);
  return { added, removed, changed };
}

function packagesOf(manifest: string): Map<string, PackageVersion> {
  const rows = manifest.split('\n').filter((line) => line !== '');
  return new Map(
    rows.map((row) => {
      const [name = '', version = '', arch = ''] = row.split('\t');
      return [`${name} ${arch}`, { name, arch, version }];
    }),
  );
}

/**
 * sh: the stanzas of the security archive's package lists. A list is one by its name, or because the Release file that it
 * belongs to calls itself so. apt may keep lists compressed in any way that it knows: so its own program reads them.
 */
const securityStanzas = `
cd var/lib/apt/lists 2>/dev/null || exit 0
set --
for list in *_Packages *_Packages.*; do
  test -f "$list" || continue
  case $list in *security*) set -- "$@" "$PWD/$list"; continue;; esac
  for release in *_InRelease *_Release; do
    case $list in "\${release%_*}"_*) ;; *) continue;; esac
    grep -aiqE '^(label|suite|codename):.*security' "$release" && set -- "$@" "$PWD/$list" && break
  done
done
test $# = 0 || exec /usr/lib/apt/apt-helper cat-file "$@"`;

/** Bytes: security archives have a few millions; a list that a package has put there may unpack to anything. */
const mostStanzas = 256 * 1024 * 1024;

/** Read from the package lists that the generation carries; none where it carries none. */
async function securityVersions(layers: readonly string[], signal: AbortSignal): Promise<Set<string>> {
  const mountPoint = await mkdtemp(path.join(tmpdir(), 'goldbed-merged-'));
  try {
    const argv = inMergedTree({ layers }, mountPoint, `{ ${securityStanzas}\n}`, []);
    const { stdout } = await check(argv, { signal, atMost: mostStanzas });
    const stanzas = stdout.matchAll(/^Package: (\S+)$[^]*?^Version: (\S+)$/gm);
    return new Set([...stanzas].map(([, name, version]) => `${name} ${version}`));
  } finally {
    await rm(mountPoint, { recursive: true, force: true });
  }
}
