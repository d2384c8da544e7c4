/**
 * One file into a testbed or out of it without starting a process there, where this host sees the testbed's root
 * ({@link Testbed.openRoot}).
 *
 * What is in it belongs to the testbed, which may change any name meanwhile, or mount something that never answers. So names
 * are opened one below the other and by no link; nothing is asked of what lies on another mount; and what is not a regular
 * file is not opened at all. Whatever is out of the way is left to the testbed's own programs (copy.ts).
 */
import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  ftruncateSync,
  openSync,
  read,
  readFileSync,
  write,
} from 'node:fs';
import { promisify } from 'node:util';
import { packageFile } from '../../exec/package-file.ts';
import { O_PATH, syscallNumbers } from '../../exec/syscalls.ts';
import { execute, type CopyOptions, type CopyReply } from './copy-process.ts';

const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW, O_DIRECTORY } = constants;

/** @param input an open regular file @returns undefined when it was not done; the target may be there, with a part of it */
export async function copyIn(options: CopyOptions, input: number, target: string): Promise<CopyReply | undefined> {
  return below(options, target, async (folder, name) => {
    const output = openOutput(folder, name);
    if (output === undefined) return undefined;
    try {
      const reply = await copyBytes(input, output, options);
      if (reply === 'ok') fchmodSync(output, fstatSync(input).mode & 0o7777);
      return reply;
    } finally {
      closeSync(output);
    }
  });
}

/** @param output an open regular file, empty @returns undefined when it was not done; else also the mode of the source */
export async function copyOut(
  options: CopyOptions,
  source: string,
  output: number,
): Promise<{ reply: CopyReply; mode: number } | undefined> {
  return below(options, source, async (folder, name) => {
    const input = openRegular(folder, name, O_RDONLY);
    if (input === undefined) return undefined;
    try {
      const reply = await copyBytes(input, output, options);
      return reply === undefined ? undefined : { reply, mode: fstatSync(input).mode };
    } finally {
      closeSync(input);
    }
  });
}

/** In the folder of a path in the testbed. @returns undefined also for what failed: the other way will tell why */
async function below<T>(
  { openRoot, signal }: CopyOptions,
  file: string,
  action: (folder: number, name: string) => Promise<T | undefined>,
): Promise<T | undefined> {
  const names = file.split('/').filter((name) => name !== '' && name !== '.');
  const last = names.pop();
  if (last === undefined || !file.startsWith('/') || [...names, last].includes('..')) return undefined;
  let folder: number | undefined;
  try {
    folder = await openRoot?.();
    if (folder === undefined) return undefined;
    const mount = mountOf(folder);
    for (const name of names) {
      const next = openSync(inside(folder, name), O_PATH | O_DIRECTORY | O_NOFOLLOW);
      closeSync(folder);
      folder = next;
      if (mountOf(folder) !== mount) return undefined;
    }
    return await action(folder, last);
  } catch {
    signal.throwIfAborted();
    return undefined;
  } finally {
    if (folder !== undefined) closeSync(folder);
  }
}

/** The file as it is, to be written anew; or a new one. */
function openOutput(folder: number, name: string): number | undefined {
  try {
    const output = openRegular(folder, name, O_WRONLY);
    if (output !== undefined) ftruncateSync(output);
    return output;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return openSync(inside(folder, name), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  }
}

/** @returns undefined for a link, a device and the like, and for what lies on another mount */
function openRegular(folder: number, name: string, flags: number): number | undefined {
  const found = openSync(inside(folder, name), O_PATH | O_NOFOLLOW);
  try {
    if (mountOf(found) !== mountOf(folder) || !fstatSync(found).isFile()) return undefined;
    return openSync(`/proc/self/fd/${found}`, flags);
  } finally {
    closeSync(found);
  }
}

function inside(folder: number, name: string): string {
  return `/proc/self/fd/${folder}/${name}`;
}

/** The kernel's number of the mount: told without asking whoever serves it. */
function mountOf(descriptor: number): string {
  const [, id] = /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8')) ?? [];
  if (id === undefined) throw new Error('no mnt_id');
  return id;
}

/** Bytes that are sooner copied than a process is started. */
const small = 4 * 1024 * 1024;

const reading = promisify(read);
const writing = promisify(write);

/** What is large goes through a process, which the time limit can end, and in which the kernel copies by itself. */
async function copyBytes(input: number, output: number, options: CopyOptions): Promise<CopyReply | undefined> {
  if (fstatSync(input).size > small) {
    const sendfile = String(syscallNumbers()?.sendfile ?? -1);
    const argv = ['/usr/bin/perl', '-f', packageFile('libexec/copy-file'), sendfile, 'through'];
    return (await execute(argv, input, output, options)).reply;
  }
  const buffer = Buffer.allocUnsafe(256 * 1024);
  for (let at = 0; at <= small;) {
    const { bytesRead } = await reading(input, buffer, 0, buffer.length, at);
    if (bytesRead === 0) return 'ok';
    for (let done = 0; done < bytesRead;)
      done += (await writing(output, buffer, done, bytesRead - done, at + done)).bytesWritten;
    at += bytesRead;
    options.signal.throwIfAborted();
  }
  return undefined; // it grows
}
