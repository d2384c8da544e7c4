/** A container's root as this host sees it, if the daemon is on it. */
import { readFileSync } from 'node:fs';
import type Docker from 'dockerode';
import { openRootOf } from '../process-root.ts';

/** @returns opens it, as {@link Testbed.openRoot}; undefined where its root is another user here, or its processes are not seen */
export function rootOfContainer(container: Docker.Container): () => Promise<number | undefined> {
  let first: Promise<number> | undefined; // its first process is one and the same for as long as it runs
  return async () => {
    const pid = await (first ??= container.inspect().then(({ State }) => State.Pid));
    return pid > 0 ? openRootOf(pid, () => isOf(container, pid)) : undefined;
  };
}

function isOf({ id }: Docker.Container, pid: number): boolean {
  const [groups = '', users = ''] = ['cgroup', 'uid_map'].map((name) => readFileSync(`/proc/${pid}/${name}`, 'utf8'));
  return groups.includes(id) && /^\s*0\s+0\s/.test(users);
}
