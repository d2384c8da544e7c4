/** A container's root as this host sees it, if the daemon is on it. */
import { readFileSync } from 'node:fs';
import type Docker from 'dockerode';
import { isRoot } from '../../exec/as-root.ts';
import { within } from '../../exec/patience.ts';
import { TestbedError } from '../../protocol/errors.ts';
import { seeRoot, type OpenSeenRoot } from '../seen-root.ts';

/** Milliseconds for the daemon to tell. */
const patience = 5_000;

/**
 * Opens it, as {@link Testbed.openRoot}; undefined where its root is another user here, or its processes are not seen. The
 * daemon is asked once, when it is first wanted: a container's root has no way to mount or to change the root of others.
 */
export function rootOfContainer(container: Docker.Container): () => Promise<number | undefined> {
  let open: OpenSeenRoot | undefined;
  return async () => {
    if (!isRoot()) return undefined;
    open ??= await look(container);
    return open();
  };
}

async function look(container: Docker.Container): Promise<OpenSeenRoot> {
  const late = (): Error => new TestbedError('run', 'docker', 'the daemon does not answer');
  const { State } = await within(container.inspect(), patience, late);
  return (State.Pid > 0 ? seeRoot(`/proc/${State.Pid}/root`, () => isOf(container, State.Pid)) : undefined) ?? none;
}

const none = (): undefined => undefined;

function isOf({ id }: Docker.Container, pid: number): boolean {
  const [groups = '', users = ''] = ['cgroup', 'uid_map'].map((name) => readFileSync(`/proc/${pid}/${name}`, 'utf8'));
  return groups.includes(id) && /^\s*0\s+0\s/.test(users);
}
