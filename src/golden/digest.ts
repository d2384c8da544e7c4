/**
 * What a layer is, as one number: SHA-256 over a tar stream that depends on nothing but names, types, owners, modes,
 * modification times, extended attributes and content. Anybody can verify one by hand, as root:
 *
 *     tar --create --directory=LAYER --sort=name --numeric-owner --xattrs --xattrs-include='*' --format=pax \
 *       --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime . | sha256sum
 *
 * (someone who is not root: the same under `unshare --user --map-root-user --map-auto --`). Overlay whiteouts are devices
 * 0/0 and the overlay's marks are extended attributes, so both are part of it. tar cannot hold sockets: a layer has none.
 * Attributes are in the file system's order: a copy of a layer is verified on the stream that it arrives as.
 */
import { createHash } from 'node:crypto';
import { inMergedTree } from '../backends/layers/merged.ts';
import { asRoot } from '../exec/as-root.ts';
import { check, CommandFailed, ended, start } from '../exec/run.ts';

const tarArguments = [
  '--create',
  '--sort=name',
  '--numeric-owner',
  ...['--xattrs', '--xattrs-include=*'],
  ...['--format=pax', '--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime'],
  '.',
];

export interface LayerDigest {
  /** `sha256:` and 64 hex digits. */
  readonly digest: string;
  /** Length of the stream. */
  readonly bytes: number;
}

/** Reads the whole layer. @throws {CommandFailed} when it cannot be read, or changes meanwhile */
export async function digestLayer(layer: string, signal: AbortSignal): Promise<LayerDigest> {
  return digestOutput([...asRoot(), '/bin/tar', `--directory=${layer}`, ...tarArguments], signal);
}

/**
 * The same of the tree that layers show together: equal to that of a layer with the same content.
 * @param mountPoint an existing folder
 */
export async function digestMerged(
  layers: readonly string[],
  mountPoint: string,
  signal: AbortSignal,
): Promise<LayerDigest> {
  return digestOutput(inMergedTree({ layers }, mountPoint, 'exec /bin/tar "$@"', tarArguments), signal);
}

async function digestOutput(argv: readonly string[], signal: AbortSignal): Promise<LayerDigest> {
  const child = start(argv, ['ignore', 'pipe', 'pipe'], { signal });
  const hash = createHash('sha256');
  let bytes = 0;
  let stderr = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    bytes += chunk.length;
  });
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const code = await ended(child, { signal });
  // tar's last line only says that it gives up
  if (code !== 0) throw new CommandFailed(argv, { code, stdout: '', stderr: stderr.split('\n')[0] ?? '' });
  return { digest: `sha256:${hash.digest('hex')}`, bytes };
}

/** Removes sockets, which a daemon in the testbed may have left: no process listens on them in a layer. */
export async function dropSockets(layer: string, signal: AbortSignal): Promise<void> {
  await check([...asRoot(), '/usr/bin/find', layer, '-xdev', '-type', 's', '-delete'], { signal });
}
