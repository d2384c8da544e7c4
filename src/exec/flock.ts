/**
 * An exclusive flock(2) on a file, held by a util-linux `flock` child: Node has no binding for it. The child ends when
 * its standard input does, so the kernel frees the lock whatever kills us.
 */
import { start } from './run.ts';

export interface FileLock extends AsyncDisposable {
  /** Fires if the lock is lost while held (its child was killed). */
  readonly lost: AbortSignal;
}

/**
 * Waits for the lock. With `wait: false`, undefined when somebody else holds it.
 * @throws when the file cannot be opened (the message names it), or the signal's reason
 */
export async function flock(file: string, signal?: AbortSignal): Promise<FileLock>;
export async function flock(file: string, signal: AbortSignal | undefined, wait: false): Promise<FileLock | undefined>;
export async function flock(file: string, signal?: AbortSignal, wait = true): Promise<FileLock | undefined> {
  const mode = wait ? [] : ['--nonblock', '--conflict-exit-code', '75'];
  const argv = ['/usr/bin/flock', '--no-fork', ...mode, file, '/bin/sh', '-c', 'echo locked; read -r end'];
  const child = start(argv, ['pipe', 'pipe', 'pipe'], signal === undefined ? {} : { signal });
  const closed = new Promise<number>((resolve) => {
    child.once('error', () => resolve(-1));
    child.once('close', (code) => resolve(code ?? -1));
  });
  const stop = (): void => void child.kill('SIGKILL');
  signal?.addEventListener('abort', stop, { once: true });
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const locked = new Promise<boolean>((resolve) => child.stdout?.once('data', () => resolve(true)));
  const won = await Promise.race([locked, closed]);
  signal?.removeEventListener('abort', stop);
  if (won !== true) {
    signal?.throwIfAborted();
    if (!wait && won === 75) return undefined;
    throw new Error(`cannot lock ${file}: ${stderr.trim() || `flock ended with ${won}`}`);
  }
  const lost = new AbortController();
  let releasing = false;
  void closed.then(() => {
    if (!releasing) lost.abort(new Error(`lock on ${file} lost`));
  });
  return {
    lost: lost.signal,
    async [Symbol.asyncDispose]() {
      releasing = true;
      child.stdin?.end();
      await closed;
    },
  };
}
