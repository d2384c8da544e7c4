/**
 * Drift: what an upgraded image has that a fresh one has not, and the reverse. A fresh one is bootstrapped aside, by the
 * image's own recipe; nothing is published.
 */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { createSessionFolder, type SessionState } from '../backends/session-folder.ts';
import { bootstrap, manifestOfRoot } from './bootstrap.ts';
import { planOf, requestAnew } from './create.ts';
import { diffManifests, type PackageDiff } from './diff.ts';
import { layoutOf, type ImageStore } from './layout.ts';
import type { GenerationRecord } from './record.ts';
import { readHead, readManifest } from './store.ts';

export interface Drift extends PackageDiff {
  /** The generation that was compared with a fresh bootstrap: `added` are packages that only the fresh one has. */
  readonly generation: GenerationRecord;
}

/**
 * @param variant mmdebstrap's, instead of the recipe's
 * @throws {UsageError} unknown image, or one that was imported and no variant; {TestbedError} bootstrapping failed
 */
export async function driftOf(
  store: ImageStore & SessionState,
  image: string,
  sessionId: string,
  variant: string | undefined,
  progress: (line: string) => void,
  signal: AbortSignal,
): Promise<Drift> {
  const generation = await readHead(store, image);
  const plan = await planOf(requestAnew(image, generation.recipe, variant), signal);
  const folder = createSessionFolder(store, 'overlay', sessionId); // found and removed if we are killed
  try {
    const [root, temporary] = ['root', 'tmp'].map((name) => path.join(folder.path, name)) as [string, string];
    await mkdir(root, { mode: 0o755 });
    await mkdir(temporary, { mode: 0o755 });
    await bootstrap(plan, root, temporary, progress, signal);
    const fresh = await manifestOfRoot(root, signal);
    const upgraded = await readManifest(layoutOf(store, image), generation.generation);
    return { generation, ...diffManifests(upgraded, fresh) };
  } finally {
    await folder.remove();
  }
}
