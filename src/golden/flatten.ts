/**
 * A stack of layers as one: copied out of an overlay mount of them, so that overlayfs itself says what the merged tree is.
 * The mount lives in a mount namespace of its own and goes with it, whatever is killed. The copy has no overlay marks.
 */
import { mkdir } from 'node:fs/promises';
import { isRoot, userNamespace } from '../exec/as-root.ts';
import { check } from '../exec/run.ts';

/** Layers of a generation at the most: mount options have one page (4 KB), and every open looks through all of them. */
export const maxLayers = 8;

export interface FlattenRequest {
  /** Lowest first; relative to `folder`, which keeps the mount options short. No `,`, `:` or backslash in them. */
  readonly layers: readonly string[];
  readonly folder: string;
  /** A mount point, made here. */
  readonly mountPoint: string;
  /** The merged copy, made here. */
  readonly into: string;
}

/** @throws {CommandFailed} when mount or cp fail, the latter when the disk is full */
export async function flatten(request: FlattenRequest, signal: AbortSignal): Promise<void> {
  await mkdir(request.mountPoint);
  await mkdir(request.into, { mode: 0o755 });
  const lower = request.layers.toReversed().join(':');
  const options = `ro,lowerdir=${lower}${isRoot() ? '' : ',userxattr'}`;
  const namespaces = isRoot() ? ['/usr/bin/unshare', '--mount', '--'] : [...userNamespace, '--mount', '--'];
  const script = 'mount -t overlay -o "$1" overlay "$2" && cp --archive "$2/." "$3/"';
  await check([...namespaces, '/bin/sh', '-c', script, 'sh', options, request.mountPoint, request.into], {
    cwd: request.folder,
    signal,
  });
}
