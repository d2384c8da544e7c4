/** What a child says, line by line: one chunk may hold several, and may come before anybody asks. */
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';

/** @returns the next line each time; empty at the end */
export function linesOf(stream: Readable): () => Promise<string> {
  const lines = createInterface({ input: stream })[Symbol.asyncIterator]();
  return async () => String((await lines.next()).value ?? '');
}
