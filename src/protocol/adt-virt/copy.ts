/**
 * copydown and copyup: one rule for all backends. Files keep their mode bits, directories merge into what is there, the
 * owner is the copying root. Single files go straight, where the host sees the testbed's root (straight-copy.ts); all else
 * over the execute command, and no byte of it passes through this process.
 *
 * What a testbed sends is not trusted. A tree is unpacked in a private new folder, where GNU tar strips leading slashes,
 * refuses `..` and delays symbolic links that point outside; then it is moved in by renames (move-tree.ts). Set-id bits,
 * devices and FIFOs stay behind. Nothing is written through a symbolic link at the end of the client's path; the folders
 * before it are the client's own business.
 */
import { constants, readFileSync } from 'node:fs';
import { lstat, mkdir, open, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { packageFile } from '../../exec/package-file.ts';
import { syscallNumbers } from '../../exec/syscalls.ts';
import { messageOf } from '../errors.ts';
import { execute, pipeline, type CopyOptions, type CopyReply } from './copy-process.ts';
import { landIn } from './move-tree.ts';
import { copyStraight } from './straight-copy.ts';

export type { CopyOptions, CopyReply } from './copy-process.ts';

const pack = (folder: string): string[] => ['/bin/tar', '-C', folder, '-c', '--numeric-owner', '-f', '-', '.'];
const unpack = (folder: string): string[] => ['/bin/tar', '-C', folder, '-x', '--no-same-owner', '-f', '-'];

/** Host to testbed. Paths that end in `/` are directories; relative ones are the server's. */
export function copyDown(source: string, target: string, options: CopyOptions): Promise<CopyReply> {
  const { auxverb } = options;
  return guarded(options, async () => {
    if (source.endsWith('/')) {
      // one process in the testbed: the folder is made by the unpacking tar's own shell
      const receive = ['/bin/sh', '-c', '/bin/mkdir -p -- "$1" && shift && exec "$@"', 'sh', target];
      const unpackAll = [...unpack(target), '--preserve-permissions'];
      return pipeline(pack(path.resolve(source)), [...auxverb, ...receive, ...unpackAll], options);
    }
    await using input = await openFile(source, constants.O_RDONLY);
    const mode = ((await input.stat()).mode & 0o7777).toString(8);
    const straight = await copyStraight(['down', target, mode], input.fd, 'ignore', options);
    if (straight !== undefined) return straight.reply;
    const receive = withPerl('/bin/cat >"$1" && exec /bin/chmod "$2" "$1"', 'down', target, mode);
    return (await execute([...auxverb, ...receive], input.fd, 'ignore', options)).reply;
  });
}

/** Testbed to host. */
export function copyUp(source: string, target: string, options: CopyOptions): Promise<CopyReply> {
  return guarded(options, () =>
    source.endsWith('/')
      ? copyTreeUp(source, path.resolve(target), options)
      : copyFileUp(source, path.resolve(target), options),
  );
}

async function copyTreeUp(source: string, target: string, options: CopyOptions): Promise<CopyReply> {
  const made = (await mkdir(target, { recursive: true })) !== undefined;
  if ((await lstat(target)).isSymbolicLink()) throw new Error(`${target} is a symbolic link`);
  await using landing = await landIn(target, options.log);
  // without --preserve-permissions tar drops the set-id bits, and the umask is all that changes the others
  const receive = ['/bin/sh', '-c', 'umask 0; exec "$@"', 'sh', ...unpack(landing.folder), '--no-same-permissions'];
  const reply = await pipeline([...options.auxverb, ...pack(source)], receive, options);
  if (reply === 'ok') await landing.moveIn(made);
  return reply;
}

async function copyFileUp(source: string, target: string, options: CopyOptions): Promise<CopyReply> {
  // the content travels on standard output, the mode on standard error
  const send = withPerl('/usr/bin/stat -Lc "mode %a" -- "$1" >&2 && exec /bin/cat -- "$1"', 'up', source);
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants;
  await using output = await openFile(target, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW);
  const { reply, said } =
    (await copyStraight(['up', source], 'ignore', output.fd, options)) ??
    (await execute([...options.auxverb, ...send], 'ignore', output.fd, options));
  const mode = /^mode ([0-7]{1,5})$/m.exec(said)?.[1];
  // a device of this host (`copyup FILE /dev/null`) keeps its own
  if (reply === 'ok' && mode !== undefined && (await output.stat()).isFile())
    await output.chmod(Number.parseInt(mode, 8) & 0o777);
  return reply;
}

/**
 * One file, within the testbed: libexec/copy-file where there is a perl, as in every Debian; else `without`, a shell script.
 * Fixed texts both, and the words are their arguments.
 */
function withPerl(without: string, way: 'down' | 'up', ...words: readonly string[]): string[] {
  program ??= readFileSync(packageFile('libexec/copy-file'), 'utf8');
  const sendfile = syscallNumbers()?.sendfile ?? -1; // no such call: the bytes pass through perl
  const perl = ['/usr/bin/perl', '-f', '-e', program, String(sendfile), way, ...words];
  const script = `if test -x "$3"; then shift 2; exec "$@"; fi; ${without}`;
  return ['/bin/sh', '-c', script, 'sh', words[0] ?? '', words[1] ?? '', ...perl];
}

let program: string | undefined;

/** Never waits, as opening a FIFO would, without any time limit; takes no folder for a file. */
async function openFile(file: string, flags: number): Promise<FileHandle> {
  const handle = await open(file, flags | constants.O_NONBLOCK, 0o644);
  const stats = await handle.stat();
  if (stats.isFile() || stats.isCharacterDevice()) return handle;
  await handle.close();
  throw new Error(`${file} is not a file`);
}

/** A copy that cannot even begin is `copy-failed`. */
async function guarded(options: CopyOptions, copy: () => Promise<CopyReply>): Promise<CopyReply> {
  try {
    return await copy();
  } catch (error) {
    options.signal.throwIfAborted();
    options.log(`goldbed-virt: copy failed: ${messageOf(error)}`);
    return 'copy-failed';
  }
}
