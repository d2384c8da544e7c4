/** Bytes to lines. */
import type { Readable } from 'node:stream';

/** No line of either side comes near it; docker's auxverb is about 1 KiB. */
export const maxLineBytes = 1024 * 1024;

export class LineTooLong extends Error {
  override readonly name = 'LineTooLong';
}

/**
 * Reads lines one at a time, whatever the chunks. A line is without its newline; a last line without one is `partial`.
 * Only one `next` at a time.
 */
export class LineReader {
  readonly #input: AsyncIterator<Buffer>;
  #chunks: Buffer[] = [];
  #size = 0;
  #ended = false;

  constructor(input: Readable) {
    this.#input = (input as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  }

  /** Undefined at the end of the stream, also if it broke. @throws {LineTooLong} */
  async next(): Promise<{ readonly line: string; readonly partial: boolean } | undefined> {
    for (;;) {
      const line = this.#take();
      if (line !== undefined) return { line, partial: false };
      if (this.#ended) return this.#rest();
      await this.#fill();
    }
  }

  async #fill(): Promise<void> {
    const read = await this.#input.next().catch(() => ({ done: true as const, value: undefined }));
    if (read.done === true) {
      this.#ended = true;
      return;
    }
    const chunk = Buffer.from(read.value);
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    if (this.#size > maxLineBytes && !chunk.includes(10))
      throw new LineTooLong(`a line of more than ${maxLineBytes} bytes`);
  }

  #take(): string | undefined {
    const last = this.#chunks.at(-1);
    if (last === undefined || (this.#chunks.length > 1 && !last.includes(10))) return undefined;
    const all = Buffer.concat(this.#chunks);
    const end = all.indexOf(10);
    this.#chunks = [end === -1 ? all : all.subarray(end + 1)];
    this.#size = this.#chunks[0]?.length ?? 0;
    return end === -1 ? undefined : all.toString('utf8', 0, end);
  }

  #rest(): { line: string; partial: true } | undefined {
    const line = Buffer.concat(this.#chunks).toString();
    this.#chunks = [];
    return line === '' ? undefined : { line, partial: true };
  }
}
