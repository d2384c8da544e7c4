/**
 * One file into a testbed or out of it without starting a process there, where this host sees the testbed's root
 * ({@link Testbed.openRoot}): by libexec/copy-file, in a process of the host's own that the time limit can end, whatever the
 * testbed does to hold it up.
 */
import { closeSync, constants } from 'node:fs';
import { packageFile } from '../../exec/package-file.ts';
import { unlessAborted } from '../../exec/patience.ts';
import { O_PATH, syscallNumbers } from '../../exec/syscalls.ts';
import { attempt, toldOf, type CopyOptions, type Copied, type Stdio } from './copy-process.ts';

const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_TRUNC, O_NOFOLLOW, O_NONBLOCK } = constants;

/** As copy-file takes them: to look, to read, to write anew, to create. */
const flags = [
  O_PATH | O_NOFOLLOW,
  O_RDONLY | O_NONBLOCK,
  O_WRONLY | O_TRUNC | O_NONBLOCK,
  O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW,
].map(String);

/** Nothing was done: a link on the way, another mount, no regular file. */
const declined = 99;

/**
 * @param words `down TARGET MODE`, or `up SOURCE`, of which the mode is said
 * @returns undefined when nothing was done, and the testbed's own programs have to do it
 */
export async function copyStraight(
  words: readonly ['down', string, string] | readonly ['up', string],
  input: Stdio,
  output: Stdio,
  options: CopyOptions,
): Promise<Copied | undefined> {
  const root = await openRoot(options);
  if (root === undefined) return undefined;
  try {
    const [way, file, mode = ''] = words;
    const sendfile = String(syscallNumbers()?.sendfile ?? -1);
    const argv = ['/usr/bin/perl', '-f', packageFile('libexec/copy-file'), sendfile, way, file, mode, ...flags];
    const ended = await attempt(argv, [input, output, 'pipe', root], options);
    return ended.code === declined ? undefined : toldOf(ended, options);
  } finally {
    closeSync(root);
  }
}

async function openRoot(options: CopyOptions): Promise<number | undefined> {
  try {
    return options.openRoot && (await unlessAborted(options.openRoot(), options.signal));
  } catch {
    options.signal.throwIfAborted();
    return undefined;
  }
}
