/** Frames between libexec/qemu-enter and libexec/qemu-agent, which tells what they mean. */

export interface Frame {
  readonly channel: number;
  readonly letter: string;
  readonly data: Buffer;
}

const headerLength = 9;

export function encodeFrame({ channel, letter, data }: Frame): Buffer {
  const header = Buffer.alloc(headerLength);
  header.writeUInt32BE(data.length, 0);
  header.writeUInt32BE(channel, 4);
  header.write(letter, 8, 'latin1');
  return Buffer.concat([header, data]);
}

/** A frame is no longer than the longest request, which the kernel limits to 2 MB of arguments by default. */
const longest = 16 * 1024 * 1024;

/** Puts frames together again. @throws {RangeError} from `push` when a frame says that it is longer than any can be */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0);

  push(chunk: Buffer): Frame[] {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const frames: Frame[] = [];
    while (this.#rest.length >= headerLength) {
      const length = this.#rest.readUInt32BE(0);
      if (length > longest) throw new RangeError(`a frame of ${length} bytes`);
      const end = headerLength + length;
      if (this.#rest.length < end) break;
      const [channel, letter] = [this.#rest.readUInt32BE(4), this.#rest.toString('latin1', 8, 9)];
      frames.push({ channel, letter, data: this.#rest.subarray(headerLength, end) });
      this.#rest = this.#rest.subarray(end);
    }
    return frames;
  }
}
