/**
 * An exclusive flock(2) on a file. Node has no binding for it, but a lock belongs to the open file and not to the process
 * that asked for it: util-linux's `flock` asks on a descriptor of ours, and ends. So this process itself holds the lock,
 * stopped or not, until it closes the file or dies.
 */
import { close, constants, fstatSync, openSync, statSync } from 'node:fs';
import { start } from './run.ts';

export interface FileLock extends AsyncDisposable {
  /** Whether the name still stands for what is locked: false when somebody has replaced or removed the file. */
  isCurrent(): boolean;
}

/**
 * Waits for the lock. With `wait: false`, undefined when somebody else holds it. A file that was removed or replaced
 * meanwhile does not count: who holds the lock holds it on what the name stands for.
 * @throws when the file cannot be opened (the message names it), or the signal's reason
 */
export async function flock(file: string, signal?: AbortSignal): Promise<FileLock>;
export async function flock(file: string, signal: AbortSignal | undefined, wait: false): Promise<FileLock | undefined>;
export async function flock(file: string, signal?: AbortSignal, wait = true): Promise<FileLock | undefined> {
  for (;;) {
    signal?.throwIfAborted();
    const descriptor = opened(file);
    let mine = false;
    try {
      mine =
        (await ask(file, descriptor, atOnce, signal)) || (wait && (await ask(file, descriptor, patiently, signal)));
      if (!mine) return undefined;
      mine = isStill(file, descriptor);
    } finally {
      if (!mine) await closed(descriptor);
    }
    if (mine) return held(file, descriptor);
  }
}

const busy = 75;
const atOnce = ['/usr/bin/flock', '--nonblock', '--conflict-exit-code', String(busy), '3'];
/** Were we killed meanwhile, the one that asks for us must not wait on. */
const patiently = ['/usr/bin/setpriv', '--pdeathsig', 'KILL', '/usr/bin/flock', '3'];

/** @returns whether the open file is locked now */
async function ask(
  file: string,
  descriptor: number,
  argv: readonly string[],
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const child = start(argv, ['ignore', 'ignore', 'pipe', descriptor]);
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const stop = (): void => void child.kill('SIGKILL');
  signal?.addEventListener('abort', stop, { once: true });
  if (signal?.aborted === true) stop();
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    if (code === 0 || code === busy) return code === 0;
    signal?.throwIfAborted();
    throw new Error(`cannot lock ${file}: ${stderr.trim() || `flock ended with ${code}`}`);
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}

/** As flock(1) opens it: to read, so that whoever may see a file may lock it. */
function opened(file: string): number {
  try {
    return openSync(file, constants.O_RDONLY | constants.O_CREAT | constants.O_NOCTTY, 0o666);
  } catch (error) {
    throw new Error(`cannot lock ${file}: ${(error as Error).message}`, { cause: error });
  }
}

function held(file: string, descriptor: number): FileLock {
  let end: Promise<void> | undefined; // once: a number that was closed may stand for another file already
  return {
    isCurrent: () => end === undefined && isStill(file, descriptor),
    [Symbol.asyncDispose]: () => (end ??= closed(descriptor)),
  };
}

function isStill(file: string, descriptor: number): boolean {
  const now = statSync(file, { throwIfNoEntry: false });
  const locked = fstatSync(descriptor);
  return now?.ino === locked.ino && now.dev === locked.dev;
}

function closed(descriptor: number): Promise<void> {
  return new Promise((resolve) => close(descriptor, () => resolve()));
}
