/**
 * A stack of layers as one: copied out of an overlay mount of them, so that overlayfs itself says what the merged tree is.
 * The mount lives in a mount namespace of its own and goes with it, whatever is killed; the copying ends with us.
 * The copy has no overlay marks.
 */
import { mkdir } from 'node:fs/promises';
import { inMergedTree } from '../backends/layers/merged.ts';
import { check } from '../exec/run.ts';

/** Layers of a generation at the most: mount options have one page (4 KB), and every open looks through all of them. */
export const maxLayers = 8;

/**
 * @param layers absolute, lowest first
 * @param mountPoint made here
 * @param into the merged copy, made here
 * @throws {CommandFailed} when mount or cp fail, the latter when the disk is full
 */
export async function flatten(
  layers: readonly string[],
  mountPoint: string,
  into: string,
  signal: AbortSignal,
): Promise<void> {
  await mkdir(mountPoint);
  await mkdir(into, { mode: 0o755 });
  const copy = 'exec setpriv --pdeathsig KILL cp --archive . "$1/"';
  await check(inMergedTree({ layers }, mountPoint, copy, [into]), { signal });
}
