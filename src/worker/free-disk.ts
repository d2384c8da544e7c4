/** The room that is left for jobs: a host takes none while there is too little, rather than to begin what cannot end. */
import { statfs } from 'node:fs/promises';
import type { Host } from './host.ts';

/** Megabytes that an ordinary user may still write. */
export async function freeDisk(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return Math.floor((bavail * bsize) / 1024 / 1024);
}

/** Why nothing can begin here now; undefined when it can. */
export async function diskObstacle({ state, minFreeDisk }: Pick<Host, 'state' | 'minFreeDisk'>) {
  const free = await freeDisk(state.root);
  if (free >= minFreeDisk) return undefined;
  return `no free disk: ${free} MB left in ${state.root}, ${minFreeDisk} MB are needed`;
}
