/** The root of a testbed as the host sees it: that of one of its processes. */
import { closeSync, constants, openSync } from 'node:fs';
import { isRoot } from '../exec/as-root.ts';

/**
 * @param isStill whether the process is still the testbed's own; asked when its root is open
 * @returns an open folder; undefined when it cannot be had, as by somebody who is not root
 */
export function openRootOf(pid: number, isStill: () => boolean): number | undefined {
  if (!isRoot()) return undefined;
  let root: number | undefined;
  try {
    root = openSync(`/proc/${pid}/root`, constants.O_RDONLY | constants.O_DIRECTORY);
    if (isStill()) return root;
  } catch {
    // it has ended
  }
  if (root !== undefined) closeSync(root);
  return undefined;
}
