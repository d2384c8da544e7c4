/**
 * Waits for a promise, but no longer than the signal allows. The promise is looked at in any case: one that fails later
 * must not end the process. @throws the signal's reason
 */
export async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  let stop = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason as Error);
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
  return Promise.race([aborted, promise]).finally(() => signal.removeEventListener('abort', stop));
}
