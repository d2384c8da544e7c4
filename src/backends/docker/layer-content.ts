/**
 * Whether all of an overlayfs upper layer comes through, when a docker daemon makes an image layer of it. It carries over
 * whiteouts, opaque folders and capabilities; it drops without a word any other extended attribute (moby's pkg/archive).
 * The root folder is 755 and root's in all of its images, imported ones too.
 */
import { check } from '../../exec/run.ts';

/** @param layer absolute directory @throws CommandFailed when it cannot be read */
export async function isCarriedOver(layer: string, signal: AbortSignal): Promise<boolean> {
  return (await attributesIn(layer, signal)).every((one) => known.has(one) || known.has(one.replace(/=.*$/, '')));
}

/**
 * What it carries over, and what overlayfs notes for itself about where a file came from. Not the marks of `redirect_dir`
 * and `metacopy`, without which a folder or a file has no content, ACLs, or what users have put there.
 */
const known: ReadonlySet<string> = new Set([
  'security.capability',
  'trusted.overlay.opaque=y',
  ...['origin', 'impure', 'nlink', 'uuid'].map((name) => `trusted.overlay.${name}`),
]);

/** `NAME=`, or `NAME=y` where the value begins with that; each once. */
async function attributesIn(layer: string, signal: AbortSignal): Promise<string[]> {
  const { stdout } = await check(['/bin/bash', '-c', list, 'bash', layer], { signal });
  return stdout.split('\n').flatMap((line) => (line === '' ? [] : [line.replace('SCHILY.xattr.', '')]));
}

/** tar's extended headers are text. A file that holds such text makes an attribute too many of it, which does no harm. */
const list = `set -o pipefail
tar --create --sparse --xattrs --xattrs-include='*' --format=pax --directory="$1" . |
  { LC_ALL=C grep --text --only-matching --extended-regexp 'SCHILY\\.xattr\\.[^=]*=y?' || [ $? = 1 ]; } | sort --unique`;
