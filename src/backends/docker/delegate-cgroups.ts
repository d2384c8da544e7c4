/** Control groups of its own for a container whose init is going to boot: systemd does not start without. */
import { readFile } from 'node:fs/promises';
import type Docker from 'dockerode';
import { isRoot } from '../../exec/as-root.ts';
import { packageFile } from '../../exec/package-file.ts';
import { check } from '../../exec/run.ts';
import type { SyscallNumbers } from '../../exec/syscalls.ts';

/** MS_REMOUNT, MS_BIND, MS_NOSUID, MS_NODEV, MS_NOEXEC, from linux/mount.h: as the daemon mounts it, but writable. */
const flags = 0x20 | 0x1000 | 0x2 | 0x4 | 0x8;

/** In a container: the one tree of cgroup 2, or systemd's own of cgroup 1; controllers of that are none of its business. */
const wanted = /^\S+ (\/sys\/fs\/cgroup(?:\/[\w,=-]+)?) (?:cgroup2 |cgroup \S*\bname=systemd\b)/gm;

/**
 * Takes root. Else the container stays as the daemon made it, which is enough for other inits than systemd.
 * @param container that runs, in a cgroup namespace of its own
 */
export async function delegateCgroups(
  container: Docker.Container,
  numbers: SyscallNumbers,
  signal: AbortSignal,
): Promise<void> {
  if (!isRoot()) return;
  const { State } = await container.inspect();
  const process = `/proc/${State.Pid}`;
  const mounts = await readFile(`${process}/mounts`, 'utf8');
  const paths = [...mounts.matchAll(wanted)].map(([, found = '']) => found);
  const words = [numbers.setns, numbers.mount, `${process}/ns/mnt`, flags].map(String);
  await check(['/usr/bin/perl', '-f', packageFile('libexec/docker-cgroup'), ...words, ...paths], { signal });
}
