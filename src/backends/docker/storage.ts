/** Whether a container's changes are one whole overlayfs upper layer in a folder of the daemon's, which can be taken. */

/** docker's name of it, and podman's. */
export const layeredDrivers: ReadonlySet<string> = new Set(['overlay2', 'overlay']);

/** The part of the answer to /info that tells. */
export interface DaemonInfo {
  readonly Driver?: string;
  readonly DriverStatus?: readonly (readonly string[])[] | null;
}

/**
 * Why there is none; undefined when there is. With `metacopy`, which podman may be configured to use, a file whose mode
 * was changed has no content in the upper layer.
 */
export function noUpperLayer({ Driver, DriverStatus }: DaemonInfo): string | undefined {
  if (!layeredDrivers.has(Driver ?? ''))
    return `docker: writing an image takes the storage driver overlay2 (podman: overlay), not ${Driver}`;
  const metacopy = DriverStatus?.find(([name = '']) => /metacopy/i.test(name))?.[1];
  if (Driver === 'overlay2' ? metacopy !== 'true' : metacopy === 'false') return undefined;
  return 'docker: writing an image takes overlay without metacopy (mountopt in storage.conf)';
}
