/**
 * Extended attributes in an overlayfs upper layer, as far as a docker daemon that makes an image layer of it is concerned:
 * it carries over capabilities, whiteouts and opaque folders, and drops all else without a word (moby's pkg/archive).
 */
import { check } from '../../exec/run.ts';

/**
 * What may be there: what it carries over, and what overlayfs notes for itself about where a file came from. Not the marks
 * of `redirect_dir` and `metacopy`, without which a folder has no content, ACLs, or what users have put there.
 */
const known = new Set([
  'security.capability',
  'trusted.overlay.opaque=y',
  ...['origin', 'impure', 'nlink', 'uuid'].map((name) => `trusted.overlay.${name}`),
]);

/** tar's extended headers are text, whatever the files hold; a file that looks like one makes the answer no at the worst. */
const list = `set -o pipefail
tar --create --sparse --xattrs --xattrs-include='*' --format=pax --directory="$1" . |
  { LC_ALL=C grep --text --only-matching --extended-regexp 'SCHILY\\.xattr\\.[^=]*=y?' || [ $? = 1 ]; } | sort --unique`;

/** @param layer absolute directory @throws CommandFailed when it cannot be read */
export async function hasOnlyKnownAttributes(layer: string, signal: AbortSignal): Promise<boolean> {
  const { stdout } = await check(['/bin/bash', '-c', list, 'bash', layer], { signal });
  const found = stdout.split('\n').filter((line) => line !== '');
  return found.map((line) => line.replace('SCHILY.xattr.', '')).every(isKnown);
}

function isKnown(attribute: string): boolean {
  return known.has(attribute) || known.has(attribute.replace(/=.*$/, ''));
}
