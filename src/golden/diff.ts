/** How two generations of an image differ, package by package. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { inMergedTree } from '../backends/layers/merged.ts';
import { check } from '../exec/run.ts';
import { layoutOf, type ImageStore } from './layout.ts';
import type { GenerationRecord } from './record.ts';
import { contentOf } from './stack.ts';
import { readGeneration, readHead, readManifest } from './store.ts';

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

export interface GenerationDiff extends PackageDiff {
  readonly from: GenerationRecord;
  readonly to: GenerationRecord;
  /** Of all layers, after less before. */
  readonly bytes: number;
}

/**
 * @param from default: the parent of `to`
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
  const before = await readGeneration(layout, from ?? after.parent ?? after.generation);
  const [old, now] = [await readManifest(layout, before.generation), await readManifest(layout, after.generation)];
  const security = await securityVersions(contentOf(layout, after).layers, signal);
  return { from: before, to: after, ...diffManifests(old, now, security), bytes: after.bytes - before.bytes };
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

/** Read from the package lists that the generation carries; none where it carries none. */
async function securityVersions(layers: readonly string[], signal: AbortSignal): Promise<Set<string>> {
  const mountPoint = await mkdtemp(path.join(tmpdir(), 'goldbed-merged-'));
  try {
    const lists = 'cat var/lib/apt/lists/*security*_Packages 2>/dev/null || true';
    const { stdout } = await check(inMergedTree({ layers }, mountPoint, lists, []), { signal });
    const stanzas = stdout.matchAll(/^Package: (\S+)$[^]*?^Version: (\S+)$/gm);
    return new Set([...stanzas].map(([, name, version]) => `${name} ${version}`));
  } finally {
    await rm(mountPoint, { recursive: true, force: true });
  }
}
