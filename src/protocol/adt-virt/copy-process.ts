/** The processes of a copy: one, or two with a pipe between them. Both sides end together, also at the time limit. */
import { spawn } from 'node:child_process';
import { cleanEnvironment, killGroup } from '../../exec/run.ts';
import type { Argv } from '../testbed.ts';

/** Replies that leave the session usable. */
export type CopyReply = 'ok' | 'timeout' | 'copy-failed';

export interface CopyOptions {
  readonly auxverb: Argv;
  /** Opens the testbed's `/`, where the host sees that. */
  readonly openRoot?: () => Promise<number | undefined>;
  /** Seconds; 0 for none. */
  readonly timeout: number;
  readonly log: (line: string) => void;
  readonly signal: AbortSignal;
}

/** What a timer of Node can hold, in seconds; more would fire at once. */
const longestTimeout = 2_147_483;

/** Of standard error; a testbed may say as much as it likes. */
const maxSaid = 64 * 1024;

/**
 * `first | second`. bash joins them: a fixed script, the commands are its arguments. Node cannot give one child's output
 * to another without the risk of reading from it itself.
 */
export async function pipeline(
  first: readonly string[],
  second: readonly string[],
  options: CopyOptions,
): Promise<CopyReply> {
  const script = '"${@:2:$1}" | "${@:2+$1}"';
  const argv = ['/bin/bash', '-o', 'pipefail', '-c', script, 'copy', String(first.length), ...first, ...second];
  return (await execute(argv, 'ignore', 'ignore', options)).reply;
}

export type Stdio = 'ignore' | number;

/** How a copy went, and what it said on standard error. */
export interface Copied {
  readonly reply: CopyReply;
  readonly said: string;
}

/** How a process of a copy ended; its code means nothing when it was `late`. */
interface Ended {
  readonly code: number;
  readonly said: string;
  readonly late: boolean;
}

/** Runs to the end, or to the time limit. @returns what it said on standard error, too */
export async function execute(
  argv: readonly string[],
  input: Stdio,
  output: Stdio,
  options: CopyOptions,
): Promise<Copied> {
  return toldOf(await attempt(argv, [input, output, 'pipe'], options), options);
}

/** @param stdio the third is ours */
export async function attempt(
  argv: readonly string[],
  stdio: readonly (Stdio | 'pipe')[],
  { timeout, signal }: CopyOptions,
): Promise<Ended> {
  const seconds = Math.min(timeout, longestTimeout);
  const limit = seconds > 0 ? AbortSignal.any([signal, AbortSignal.timeout(seconds * 1000)]) : signal;
  limit.throwIfAborted();
  const ended = await endOf(argv, stdio, limit);
  signal.throwIfAborted();
  return { ...ended, late: limit.aborted };
}

/** The reply that this means; a failure is logged. */
export function toldOf({ code, said, late }: Ended, { log }: CopyOptions): Copied {
  if (late) return { reply: 'timeout', said };
  // 141: the producer died of SIGPIPE, and its reader was content
  if (code === 0 || code === 141) return { reply: 'ok', said };
  for (const line of said.trim().split('\n')) log(line);
  return { reply: 'copy-failed', said };
}

async function endOf(
  [program = '', ...args]: readonly string[],
  stdio: readonly (Stdio | 'pipe')[],
  limit: AbortSignal,
): Promise<{ code: number; said: string }> {
  const child = spawn(program, args, {
    cwd: '/',
    env: { ...cleanEnvironment },
    detached: true,
    stdio: [...stdio],
  });
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    if (said.length < maxSaid) said += chunk.toString();
  });
  const kill = (): void => {
    killGroup(child, 'SIGKILL');
    child.stderr?.destroy(); // a process in a container has it, too, and goes on: nobody waits for that
  };
  limit.addEventListener('abort', kill, { once: true });
  const code = await new Promise<number>((resolve) => {
    child.once('error', (error) => {
      said += error.message;
      resolve(127);
    });
    child.once('close', (exit) => resolve(exit ?? 1));
  });
  limit.removeEventListener('abort', kill);
  return { code, said };
}
