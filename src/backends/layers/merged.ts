/** The layers of a generation as the one tree that they mean, for whoever cannot stack them. */
import { isRoot, userNamespace } from '../../exec/as-root.ts';
import type { Content } from '../backend.ts';

/**
 * A command that runs `script` (sh, with its own `$1...`) in a folder that shows the merged tree, read-only. overlayfs
 * itself says what the layers mean; the mount goes with the command, whatever is killed. `.` is the tree.
 * @param mountPoint an existing folder, used where there is more than one layer
 */
export function inMergedTree(
  { layers }: Content,
  mountPoint: string,
  script: string,
  args: readonly string[],
): readonly string[] {
  const [only, ...more] = layers;
  if (only !== undefined && more.length === 0) {
    const root = isRoot() ? [] : [...userNamespace, '--'];
    return [...root, '/bin/sh', '-c', `cd "$1" && shift && ${script}`, 'sh', only, ...args];
  }
  const lower = layers.toReversed().map(escapeLayer).join(':');
  const options = `ro,lowerdir=${lower}${isRoot() ? '' : ',userxattr'}`;
  const namespaces = isRoot() ? ['/usr/bin/unshare'] : userNamespace;
  const mount = 'mount -t overlay -o "$1" overlay "$2" && cd "$2" && shift 2';
  return [
    ...[...namespaces, '--mount', '--', '/bin/sh', '-c', `${mount} && ${script}`, 'sh'],
    ...[options, mountPoint, ...args],
  ];
}

/** overlayfs splits its options at `,` and its layers at `:`; both, and the backslash itself, can be escaped. */
export function escapeLayer(layer: string): string {
  return layer.replaceAll(/[\\:,]/g, String.raw`\$&`);
}
