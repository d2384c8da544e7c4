/** Whether a container's changes are one whole overlayfs upper layer in a folder of the daemon's, to be taken or filled. */

/** docker's name of it, and podman's. */
export const layeredDrivers: ReadonlySet<string> = new Set(['overlay2', 'overlay']);

/** The part of the answer to /info that tells. */
export interface DaemonInfo {
  readonly Driver?: string;
  readonly DriverStatus?: readonly (readonly string[])[] | null;
  /** `name=seccomp,profile=default`, `name=userns`, ... */
  readonly SecurityOptions?: readonly string[] | null;
}

/**
 * Why there is none; undefined when there is. With `metacopy`, which podman may be configured to use, a file whose mode
 * was changed has no content in the upper layer.
 */
export function noUpperLayer(info: DaemonInfo): string | undefined {
  const { Driver, DriverStatus } = info;
  if (hasOwnIds(info)) return 'docker: writing an image takes a daemon that is neither rootless nor remaps user ids';
  if (!layeredDrivers.has(Driver ?? ''))
    return `docker: writing an image takes the storage driver overlay2 (podman: overlay), not ${Driver}`;
  const metacopy = DriverStatus?.find(([name = '']) => /metacopy/i.test(name))?.[1];
  if (Driver === 'overlay2' ? metacopy !== 'true' : metacopy === 'false') return undefined;
  return 'docker: writing an image takes overlay without metacopy (mountopt in storage.conf)';
}

/**
 * Whether it makes a whole image layer of a container's upper layer. podman is never asked to. Where the kernel redirects
 * renamed folders, docker compares two trees instead, and takes files of one size and time for the same.
 */
export function takesLayers(info: DaemonInfo): boolean {
  const native = info.DriverStatus?.find(([name]) => name === 'Native Overlay Diff')?.[1];
  return info.Driver === 'overlay2' && native === 'true' && !hasOwnIds(info);
}

/** The owners of its files are not those that a container sees. */
function hasOwnIds({ SecurityOptions }: DaemonInfo): boolean {
  return (SecurityOptions ?? []).some((option) => /^name=(?:userns|rootless)\b/.test(option));
}
