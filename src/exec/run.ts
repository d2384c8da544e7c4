/**
 * Child processes: start one with an argument vector (never a shell string), collect or stream its output, and end the
 * whole process group when the signal fires.
 */
import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import type { Readable } from 'node:stream';

export interface RunOptions {
  readonly cwd?: string;
  /** What the program is told that it is called; default: its path. */
  readonly argv0?: string;
  /** The whole environment of the child; default: a small fixed one, so that secrets of ours never leak. */
  readonly env?: Readonly<Record<string, string>>;
  /** Bytes for the child's standard input; default: none (/dev/null). */
  readonly input?: string | Uint8Array;
  /** Where output goes besides being collected. */
  readonly onOutput?: (chunk: Buffer, stream: 'stdout' | 'stderr') => void;
  /**
   * How many bytes of the end of each stream are collected; default: all. For what runs in a testbed, whose package may
   * replace any program there by one that never stops talking.
   */
  readonly keep?: number;
  /** How many bytes of output there may be, where a part of it would say something else than the whole; default: any. */
  readonly atMost?: number;
  /**
   * Milliseconds for which the output is waited for when the command itself has ended: a daemon that it left behind may hold
   * it open. Default: as long as that takes.
   */
  readonly lingers?: number;
  readonly signal?: AbortSignal;
  /** Milliseconds between SIGTERM and SIGKILL after an abort; default 5000. */
  readonly grace?: number;
}

export interface Finished {
  /** Exit code, or 128 + signal number as a shell would say. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command that did not end with 0, where that was required. */
export class CommandFailed extends Error {
  override readonly name = 'CommandFailed';
  readonly code: number;
  readonly stderr: string;
  constructor(argv: readonly string[], finished: Finished) {
    const lastLines = finished.stderr.trim().split('\n').slice(-2).join('; '); // tar's last one says nothing
    super(`${argv.slice(0, 3).join(' ')}: exit ${finished.code}${lastLines === '' ? '' : `: ${lastLines}`}`);
    this.code = finished.code;
    this.stderr = finished.stderr;
  }
}

/** A command whose output was more than was allowed; it has been killed. */
export class TooMuchOutput extends Error {
  override readonly name = 'TooMuchOutput';
  constructor(argv: readonly string[], atMost: number) {
    super(`${argv.slice(0, 3).join(' ')}: says more than ${atMost} bytes`);
  }
}

/** What children get when nothing else is said. */
export const cleanEnvironment: Readonly<Record<string, string>> = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  LANG: 'C.UTF-8',
};

/** Runs a command to its end. @throws the signal's reason when aborted; the spawn error when it cannot start; {@link TooMuchOutput} */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const { input, keep = Infinity, atMost = Infinity } = options;
  const child = start(argv, [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'], options);
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  let said = 0;
  const heard = (stream: 'stdout' | 'stderr') => (chunk: Buffer) => {
    said += chunk.length;
    if (said > atMost) silence(child);
    else options.onOutput?.(chunk, stream);
  };
  collect(child.stdout, out, keep, heard('stdout'));
  collect(child.stderr, err, keep, heard('stderr'));
  if (input !== undefined && child.stdin !== null) {
    child.stdin.on('error', () => {}); // the child may end without reading all of it
    child.stdin.end(input);
  }
  const code = await ended(child, options);
  if (said > atMost) throw new TooMuchOutput(argv, atMost);
  const [stdout = '', stderr = ''] = [out, err].map((chunks) => Buffer.concat(chunks).subarray(-keep).toString());
  return { code, stdout, stderr };
}

/** As {@link run}, for a command that must succeed. @throws {CommandFailed} */
export async function check(argv: readonly string[], options: RunOptions = {}): Promise<Finished> {
  const finished = await run(argv, options);
  if (finished.code !== 0) throw new CommandFailed(argv, finished);
  return finished;
}

/** Starts a command in a process group of its own. */
export function start(argv: readonly string[], stdio: StdioOptions, options: RunOptions = {}): ChildProcess {
  options.signal?.throwIfAborted();
  const [program, ...args] = argv;
  if (program === undefined) throw new TypeError('empty argv');
  return spawn(program, args, {
    cwd: options.cwd ?? '/',
    ...(options.argv0 === undefined ? {} : { argv0: options.argv0 }),
    env: { ...(options.env ?? cleanEnvironment) },
    stdio,
    detached: true,
  });
}

/**
 * Waits for the child's end and that of its output; on abort terminates its group, then kills it. Who has left the group, as
 * a process in a testbed may, keeps the output open and goes on: nobody waits for that then.
 */
export async function ended(child: ChildProcess, options: RunOptions = {}): Promise<number> {
  const { signal, grace = 5000, lingers } = options;
  let timer: NodeJS.Timeout | undefined;
  const abort = (): void => {
    killGroup(child, 'SIGTERM');
    timer = setTimeout(() => silence(child), grace);
  };
  if (lingers !== undefined) child.once('exit', () => void (timer ??= setTimeout(() => deafen(child), lingers)));
  signal?.addEventListener('abort', abort, { once: true });
  try {
    const code = await new Promise<number>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (exit, killedBy) => resolve(exit ?? 128 + signalNumber(killedBy)));
    });
    signal?.throwIfAborted();
    return code;
  } finally {
    signal?.removeEventListener('abort', abort);
    clearTimeout(timer);
  }
}

function silence(child: ChildProcess): void {
  killGroup(child, 'SIGKILL');
  deafen(child);
}

function deafen({ stdout, stderr }: ChildProcess): void {
  stdout?.destroy();
  stderr?.destroy();
}

/** Signals a child's whole process group; silent when it is gone. */
export function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    child.kill(signal);
  }
}

/** Drops whole chunks from the beginning, as soon as there is enough without them. */
function collect(stream: Readable | null, into: Buffer[], keep: number, each: (chunk: Buffer) => void): void {
  let kept = 0;
  stream?.on('data', (chunk: Buffer) => {
    into.push(chunk);
    kept += chunk.length;
    for (let first = into[0]; first !== undefined && kept - first.length >= keep; first = into[0]) {
      kept -= first.length;
      into.shift();
    }
    each(chunk);
  });
}

const numbers: Partial<Record<NodeJS.Signals, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGPIPE: 13,
  SIGTERM: 15,
};

/** The signal's number on Linux, 0 for those that nobody here reports. */
export function signalNumber(signal: NodeJS.Signals | null): number {
  return (signal === null ? undefined : numbers[signal]) ?? 0;
}
