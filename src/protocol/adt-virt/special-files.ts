/**
 * What a testbed must not bring to the host: tar makes device nodes, as root, and FIFOs wherever it unpacks. A node of the
 * host's own disk is all of that disk to whoever may open it, and a FIFO holds up whoever reads the tree.
 */
import type { Dirent } from 'node:fs';
import { chmod, lstat, readdir, unlink } from 'node:fs/promises';

export interface Removed {
  readonly count: number;
  /** The path of one of them, for people; empty when there was none. */
  readonly example: string;
}

/**
 * Leaves files, folders and symbolic links only. The tree must be out of reach of whoever sent it.
 * @param folder bytes: a name need not be UTF-8
 */
export async function removeSpecialFiles(folder: Buffer): Promise<Removed> {
  const mode = (await lstat(folder)).mode & 0o7777;
  const closed = (mode & 0o700) !== 0o700; // not even its owner may look, or remove anything
  if (closed) await chmod(folder, mode | 0o700);
  let removed: Removed = { count: 0, example: '' };
  for (const entry of await readdir(folder, { withFileTypes: true, encoding: 'buffer' })) {
    const file = below(folder, entry.name);
    if (entry.isDirectory()) removed = sum(removed, await removeSpecialFiles(file));
    else if (isSpecial(entry)) {
      await unlink(file);
      removed = sum(removed, { count: 1, example: file.toString() });
    }
  }
  if (closed) await chmod(folder, mode);
  return removed;
}

/** Not a list of what is special: a kind that is not known stays behind, too. */
function isSpecial(entry: Dirent<Buffer>): boolean {
  return !entry.isFile() && !entry.isSymbolicLink();
}

function sum(one: Removed, other: Removed): Removed {
  return { count: one.count + other.count, example: one.example || other.example };
}

export function below(folder: Buffer, name: Buffer): Buffer {
  return Buffer.concat([folder, Buffer.from('/'), name]);
}
