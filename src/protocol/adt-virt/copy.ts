/**
 * copydown and copyup, over the execute command alone: one rule for all backends. Files keep their mode bits, directories
 * merge into what is there, the owner is the copying root. No byte passes through this process.
 *
 * The host's end of a copyup reads what the testbed says, which is not trusted: GNU tar strips leading slashes, refuses
 * `..`, and delays symbolic links that point outside until everything else is unpacked (tar(1), "-P").
 */
import { spawn } from 'node:child_process';
import { chmod, mkdir, open, stat } from 'node:fs/promises';
import { cleanEnvironment, killGroup } from '../../exec/run.ts';
import type { Argv } from '../testbed.ts';

/** Replies that leave the session usable. */
export type CopyReply = 'ok' | 'timeout' | 'copy-failed';

export interface CopyOptions {
  readonly auxverb: Argv;
  /** Seconds; 0 for none. */
  readonly timeout: number;
  readonly log: (line: string) => void;
  readonly signal: AbortSignal;
}

const pack = (folder: string): string[] => ['/bin/tar', '-C', folder, '-c', '--numeric-owner', '-f', '-', '.'];
const unpack = (folder: string): string[] => [
  ...['/bin/tar', '-C', folder, '-x', '--preserve-permissions', '--no-same-owner', '-f', '-'],
];

/** Host to testbed. Paths that end in `/` are directories. */
export function copyDown(source: string, target: string, options: CopyOptions): Promise<CopyReply> {
  const { auxverb } = options;
  return guarded(options, async () => {
    if (source.endsWith('/')) {
      // one process in the testbed: the folder is made by the unpacking tar's own shell
      const receive = ['/bin/sh', '-c', '/bin/mkdir -p -- "$1" && shift && exec "$@"', 'sh', target, ...unpack(target)];
      return pipeline(pack(source), [...auxverb, ...receive], options);
    }
    await using input = await open(source, 'r');
    const mode = ((await stat(source)).mode & 0o7777).toString(8);
    const receive = ['/bin/sh', '-c', '/bin/cat >"$1" && exec /bin/chmod "$2" "$1"', 'sh', target, mode];
    return (await execute([...auxverb, ...receive], input.fd, 'ignore', options)).reply;
  });
}

/** Testbed to host. */
export function copyUp(source: string, target: string, options: CopyOptions): Promise<CopyReply> {
  const { auxverb } = options;
  return guarded(options, async () => {
    if (source.endsWith('/')) {
      await mkdir(target, { recursive: true });
      return pipeline([...auxverb, ...pack(source)], unpack(target), options);
    }
    // the content travels on standard output, the mode on standard error
    const send = ['/bin/sh', '-c', '/usr/bin/stat -Lc "mode %a" -- "$1" >&2 && exec /bin/cat -- "$1"', 'sh', source];
    await using output = await open(target, 'w', 0o644);
    const { reply, said } = await execute([...auxverb, ...send], 'ignore', output.fd, options);
    const mode = /^mode ([0-7]{1,5})$/m.exec(said)?.[1];
    if (reply === 'ok' && mode !== undefined) await chmod(target, Number.parseInt(mode, 8) & 0o777);
    return reply;
  });
}

/** A copy that cannot even begin is `copy-failed`. */
async function guarded(options: CopyOptions, copy: () => Promise<CopyReply>): Promise<CopyReply> {
  try {
    return await copy();
  } catch (error) {
    options.signal.throwIfAborted();
    options.log(`copy failed: ${error instanceof Error ? error.message : String(error)}`);
    return 'copy-failed';
  }
}

/**
 * `first | second`. bash joins them: a fixed script, the commands are its arguments. Node cannot give one child's output
 * to another without the risk of reading from it itself.
 */
async function pipeline(first: readonly string[], second: readonly string[], options: CopyOptions): Promise<CopyReply> {
  const script = '"${@:2:$1}" | "${@:2+$1}"';
  const argv = ['/bin/bash', '-o', 'pipefail', '-c', script, 'copy', String(first.length), ...first, ...second];
  return (await execute(argv, 'ignore', 'ignore', options)).reply;
}

type Stdio = 'ignore' | number;

/** Runs to the end, or to the time limit. */
async function execute(
  argv: readonly string[],
  input: Stdio,
  output: Stdio,
  { timeout, signal, log }: CopyOptions,
): Promise<{ reply: CopyReply; said: string }> {
  const limit = timeout > 0 ? AbortSignal.any([signal, AbortSignal.timeout(timeout * 1000)]) : signal;
  limit.throwIfAborted();
  const [program = '', ...args] = argv;
  const child = spawn(program, args, {
    cwd: '/',
    env: { ...cleanEnvironment },
    detached: true,
    stdio: [input, output, 'pipe'],
  });
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const kill = (): void => killGroup(child, 'SIGKILL');
  limit.addEventListener('abort', kill, { once: true });
  const code = await new Promise<number>((resolve) => {
    child.once('error', (error) => {
      said += error.message;
      resolve(127);
    });
    child.once('close', (exit) => resolve(exit ?? 1));
  });
  limit.removeEventListener('abort', kill);
  signal.throwIfAborted();
  if (limit.aborted) return { reply: 'timeout', said };
  // 141: the producer died of SIGPIPE, and its reader was content
  if (code === 0 || code === 141) return { reply: 'ok', said };
  log(said.trim());
  return { reply: 'copy-failed', said };
}
