/** What the first process of a container said when it failed (libexec/docker-agent), in a folder that it shares with us. */
import { closeSync, constants, fstatSync, lstatSync, openSync, readSync } from 'node:fs';

/** Of the text: it becomes part of a line. */
const most = 200;

const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/**
 * The container may have put anything there, of any kind and size: no more is opened than a file, and read than a line.
 * @returns undefined where there is nothing to be read
 */
export function lastWords(file: string): string | undefined {
  let handle: number | undefined;
  try {
    if (!lstatSync(file).isFile()) return undefined; // opening a device may do something
    handle = openSync(file, flags);
    if (!fstatSync(handle).isFile()) return undefined; // it has been replaced meanwhile
    const bytes = Buffer.alloc(most);
    const words = bytes.toString('utf8', 0, readSync(handle, bytes));
    return words.replaceAll(/[^\x20-\x7e]+/g, ' ').trim() || undefined;
  } catch {
    return undefined;
  } finally {
    if (handle !== undefined) closeSync(handle);
  }
}
