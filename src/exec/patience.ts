/** Giving up the wait for a promise, never what it stands for: a command goes on, a request may still be answered. */

/** @throws `late` when the promise has not settled within so many milliseconds */
export async function within<T>(promise: Promise<T>, milliseconds: number, late: () => Error): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late()), milliseconds);
  });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

/**
 * No longer than the signal allows. The promise is looked at in any case: one that fails later must not end the process.
 * @throws the signal's reason when it fires first
 */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  let stop = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason as Error);
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
  return Promise.race([aborted, promise]).finally(() => signal.removeEventListener('abort', stop));
}
