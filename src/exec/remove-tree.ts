/** Removing a folder whatever is in it: what a testbed has sent may be closed to its own owner, and deeper than a path may be long. */
import { rm } from 'node:fs/promises';
import { check } from './run.ts';

export async function removeTree(folder: string): Promise<void> {
  try {
    await rm(folder, { recursive: true, force: true });
  } catch {
    await check(['/bin/chmod', '-R', 'u+rwX', '--', folder]);
    await check(['/bin/rm', '-rf', '--', folder]); // goes down step by step, where Node asks for the whole path each time
  }
}
