/** The root of a testbed as the host sees it. */
import { closeSync, constants, openSync, readFileSync } from 'node:fs';
import { isRoot } from '../exec/as-root.ts';
import { O_PATH } from '../exec/syscalls.ts';

/** @returns an open folder, which the caller closes; undefined when it is not there any more */
export type OpenSeenRoot = () => number | undefined;

/**
 * To be called before anything of the testbed's own has run: what may lie there later, such as a mount that never answers, is
 * another root, and not opened. Nothing is asked of it meanwhile (O_PATH).
 * @param place where the root is: a folder, or `/proc/PID/root`
 * @param isStill whether that is still the testbed's; asked when it is open
 * @returns undefined where it cannot be had, as by somebody who is not root
 */
export function seeRoot(place: string, isStill: () => boolean = () => true): OpenSeenRoot | undefined {
  if (!isRoot()) return undefined;
  const open = (): number => openSync(place, O_PATH | constants.O_DIRECTORY);
  const seen = tryTo(open);
  if (seen === undefined) return undefined;
  const first = mountOf(seen);
  closeSync(seen);
  return () => {
    const root = tryTo(open);
    if (root === undefined) return undefined;
    if (mountOf(root) === first && tryTo(isStill) === true) return root;
    closeSync(root);
    return undefined;
  };
}

/** The kernel's number of the mount. */
function mountOf(descriptor: number): string {
  const about = readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8');
  return /^mnt_id:\s*(\d+)$/m.exec(about)?.[1] ?? '';
}

function tryTo<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch {
    return undefined; // the process has ended, or the mount has gone
  }
}
