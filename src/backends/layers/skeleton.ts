/**
 * The topmost lower layer of every testbed: what the host provides and no image should carry (device nodes, mount
 * points, /etc/hosts). Made once per host and boot-independent, so that opening a testbed needs no mknod and no mkdir.
 */
import { constants, existsSync } from 'node:fs';
import { access, chmod, mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import { isRoot } from '../../exec/as-root.ts';
import { isReadOnly } from '../../exec/durable.ts';
import { check } from '../../exec/run.ts';
import { UnavailableError } from '../../protocol/errors.ts';

/** Devices that a testbed has, with their numbers (Documentation/admin-guide/devices.txt). */
const nodes = { null: [1, 3], zero: [1, 5], full: [1, 7], random: [1, 8], urandom: [1, 9], tty: [5, 0] } as const;

/** Names under /dev that are bound from the host where device nodes cannot be made (user namespaces). */
export const devices = Object.keys(nodes);

/** Changes whenever the content below does, so that an upgraded goldbed does not use an old skeleton. */
const version = 2;

/** Returns the skeleton's folder, made on first use; safe against concurrent makers. */
export async function ensureSkeleton(sessions: string): Promise<string> {
  const folder = path.join(sessions, `.skeleton-${version}-${isRoot() ? 'root' : 'user'}-${hostname()}`);
  if (existsSync(folder)) return folder;
  try {
    await mkdir(sessions, { recursive: true, mode: 0o755 });
  } catch (error) {
    const state = path.dirname(sessions); // a recursive mkdir says ENOENT where there is no writing
    const reason: unknown = await access(state, constants.W_OK).catch((refused: unknown) => refused);
    if (reason !== undefined && isReadOnly(reason)) {
      throw new UnavailableError(`${state} is on a read-only file system: sessions need room there`, { cause: error });
    }
    throw error;
  }
  const draft = await mkdtemp(path.join(sessions, '.making-overlay-')); // if we are killed, it is reaped as a session's
  try {
    await fill(draft);
    await rename(draft, folder);
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    if (!existsSync(folder)) throw error; // else another process was first
  }
  return folder;
}

async function fill(root: string): Promise<void> {
  for (const dir of ['proc', 'sys', 'dev/pts', 'dev/shm', 'etc']) {
    await mkdir(path.join(root, dir), { recursive: true, mode: 0o755 });
  }
  await chmod(root, 0o755);
  await chmod(path.join(root, 'dev/shm'), 0o1777);
  for (const [name, [major, minor]] of Object.entries(nodes)) {
    const node = path.join(root, 'dev', name);
    if (isRoot()) await check(['/bin/mknod', '--mode=666', node, 'c', String(major), String(minor)]);
    else await writeFile(node, '');
  }
  const links = { fd: '/proc/self/fd', stdin: 'fd/0', stdout: 'fd/1', stderr: 'fd/2', ptmx: 'pts/ptmx' };
  for (const [name, target] of Object.entries(links)) await symlink(target, path.join(root, 'dev', name));
  await writeFile(path.join(root, 'etc/resolv.conf'), '', { mode: 0o644 });
  await writeFile(path.join(root, 'etc/hosts'), hosts(), { mode: 0o644 });
}

function hosts(): string {
  return `127.0.0.1 localhost\n127.0.1.1 ${hostname()}\n::1 localhost ip6-localhost ip6-loopback\n`;
}
