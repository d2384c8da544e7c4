/** Where the changes of a testbed over layers go: beside the session, or in a candidate that outlives it. */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { asRoot } from '../../exec/as-root.ts';
import { check } from '../../exec/run.ts';
import type { LayeredFolder } from './layered-folder.ts';

export interface ChangesFolder {
  readonly upper: string;
  /** overlayfs wants it on the same file system, outside of `upper`, and empty. */
  readonly work: string;
}

export async function changesFolder(folder: LayeredFolder, kept?: string): Promise<ChangesFolder> {
  if (kept === undefined) return folder.renewLayer();
  const work = path.join(path.dirname(kept), 'overlay-work');
  await emptyFolder(work);
  return { upper: kept, work };
}

export async function emptyFolder(folder: string): Promise<void> {
  await check([...asRoot(), '/bin/rm', '-rf', '--', folder]);
  await mkdir(folder, { mode: 0o755 });
}
