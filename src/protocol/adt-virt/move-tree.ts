/**
 * Where a tree that a testbed sent lands on the host, and how it moves from there into the folder that the client named.
 *
 * Unpacked right there, tar would follow a symbolic link that is there already, such as one that an earlier copy brought
 * (CVE-2025-45582). A new folder has none, and rename(2) follows none.
 */
import { randomBytes } from 'node:crypto';
import { chmod, lstat, mkdir, readdir, rename, rm, unlink, utimes } from 'node:fs/promises';
import path from 'node:path';
import { removeTree } from '../../exec/remove-tree.ts';
import { below, removeSpecialFiles } from './special-files.ts';

export interface Landing extends AsyncDisposable {
  /** Empty, and for nobody else to enter. */
  readonly folder: string;
  /**
   * Merges what is in it into the target: what exists is replaced, a folder only by its own content. Only files, folders
   * and symbolic links are moved; one line tells of what else there was.
   * @param withMode whether the target becomes as the tree's own folder was; one that was there keeps its mode
   */
  moveIn(withMode: boolean): Promise<void>;
}

/** Inside the target, since a rename never leaves its file system. Dispose removes what was not moved. */
export async function landIn(target: string, log: (line: string) => void): Promise<Landing> {
  const closed = path.join(target, `.goldbed-copy-${randomBytes(6).toString('hex')}`);
  const folder = path.join(closed, 'tree');
  await mkdir(closed, { mode: 0o700 });
  await mkdir(folder, { mode: 0o755 });
  return {
    folder,
    async moveIn(withMode) {
      const { mode, atime, mtime } = await lstat(folder);
      const { count, example } = await removeSpecialFiles(Buffer.from(folder));
      if (count > 0) log(`goldbed-virt: not copied: ${stayedBehind(count, path.relative(folder, example))}`);
      await moveContent(Buffer.from(folder), Buffer.from(target));
      await rm(closed, { recursive: true });
      if (!withMode) return;
      await chmod(target, mode & 0o777);
      await utimes(target, atime, mtime);
    },
    [Symbol.asyncDispose]: () => removeTree(closed),
  };
}

/** Paths are bytes: a name need not be UTF-8. */
async function moveContent(from: Buffer, to: Buffer): Promise<void> {
  await chmod(from, 0o700);
  for (const name of await readdir(from, { encoding: 'buffer' })) await move(below(from, name), below(to, name));
}

async function move(from: Buffer, to: Buffer): Promise<void> {
  const incoming = await lstat(from);
  if (!incoming.isDirectory()) return rename(from, to); // fails on a folder
  const present = await lstat(to).catch(() => undefined);
  if (present?.isDirectory() === true) return moveContent(from, to);
  if (present !== undefined) await unlink(to);
  await chmod(from, 0o700); // rename(2) writes the `..` of a folder
  await rename(from, to);
  await chmod(to, incoming.mode & 0o777);
}

/** One line, whatever the testbed has called it. */
function stayedBehind(count: number, example: string): string {
  const others = count === 1 ? '' : ` and ${count - 1} more`;
  return `${JSON.stringify(example.slice(0, 200))}${others}: a device, a FIFO or a socket`;
}
