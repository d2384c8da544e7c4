/** A container's root as this host sees it, if the daemon is on it. */
import { readFileSync } from 'node:fs';
import type Docker from 'dockerode';
import { openRootOf } from '../process-root.ts';

/** @returns an open folder; undefined where its root is another user here, or its processes cannot be seen */
export async function openRootOfContainer(container: Docker.Container): Promise<number | undefined> {
  const { State } = await container.inspect();
  const isStill = (): boolean =>
    readOf(`/proc/${State.Pid}/cgroup`).includes(container.id) &&
    /^\s*0\s+0\s/.test(readOf(`/proc/${State.Pid}/uid_map`));
  return State.Pid > 0 ? openRootOf(State.Pid, isStill) : undefined;
}

function readOf(file: string): string {
  return readFileSync(file, 'utf8');
}
