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
  /** What is left of the newest chunk. */
  #chunk: Buffer = Buffer.alloc(0);
  /** The beginning of the current line, from the chunks before: no newline in them. */
  #begun: Buffer[] = [];
  #size = 0;
  #ended = false;

  constructor(input: Readable) {
    // whoever has said all may still be answered: at its end, a socket must not be destroyed
    this.#input = input.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer>;
  }

  /** Undefined at the end of the stream, also if it broke. @throws {LineTooLong} */
  async next(): Promise<{ readonly line: string; readonly partial: boolean } | undefined> {
    for (;;) {
      const end = this.#chunk.indexOf(10);
      this.#begin(end === -1 ? this.#chunk : this.#chunk.subarray(0, end));
      this.#chunk = this.#chunk.subarray(end === -1 ? this.#chunk.length : end + 1);
      if (end !== -1) return { line: this.#take(), partial: false };
      if (this.#ended) return this.#size === 0 ? undefined : { line: this.#take(), partial: true };
      await this.#fill();
    }
  }

  #begin(piece: Buffer): void {
    if (piece.length === 0) return;
    this.#begun.push(piece);
    this.#size += piece.length;
    if (this.#size > maxLineBytes) throw new LineTooLong(`a line of more than ${maxLineBytes} bytes`);
  }

  #take(): string {
    const line = Buffer.concat(this.#begun).toString();
    this.#begun = [];
    this.#size = 0;
    return line;
  }

  async #fill(): Promise<void> {
    const read = await this.#input.next().catch(() => ({ done: true as const, value: undefined }));
    if (read.done === true) this.#ended = true;
    else this.#chunk = Buffer.from(read.value);
  }
}
