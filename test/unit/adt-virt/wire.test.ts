/** Lines do not depend on how their bytes were cut into chunks. */
import { PassThrough, Readable } from 'node:stream';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { LineReader, LineTooLong, maxLineBytes } from '../../../src/protocol/adt-virt/wire.ts';

interface Line {
  readonly line: string;
  readonly partial: boolean;
}

async function linesOf(chunks: readonly Uint8Array[]): Promise<Line[]> {
  const reader = new LineReader(Readable.from(chunks.map((chunk) => Buffer.from(chunk))));
  const lines: Line[] = [];
  for (let next = await reader.next(); next !== undefined; next = await reader.next()) lines.push(next);
  return lines;
}

const bytes = (text: string): Buffer => Buffer.from(text);
const whole = (line: string): Line => ({ line, partial: false });

test.each<[string, string[], Line[]]>([
  ['nothing', [], []],
  ['one line', ['open\n'], [whole('open')]],
  ['a line in pieces', ['op', 'e', 'n\n'], [whole('open')]],
  ['several in one write', ['a\nb\n\nc\n'], [whole('a'), whole('b'), whole(''), whole('c')]],
  ['a carriage return stays for the splitting', ['open\r\n'], [whole('open\r')]],
  ['a last line without its end', ['a\nca', 'ps'], [whole('a'), { line: 'caps', partial: true }]],
])('%s', async (_, chunks, lines) => {
  expect(await linesOf(chunks.map(bytes))).toEqual(lines);
});

test('a character may be cut in two, and bytes that are no UTF-8 do not end it', async () => {
  const cut = [Buffer.from([0xc3]), Buffer.from([0xa9, 10, 0xff, 10])];
  expect(await linesOf(cut)).toEqual([whole('é'), whole('\ufffd')]);
});

test('the same lines however they are cut', async () => {
  const sample = fc.array(fc.string({ unit: fc.constantFrom('a', 'é', '\n', '\r', ' ') }), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(sample, async (chunks) => {
      expect(await linesOf(chunks.map(bytes))).toEqual(await linesOf([bytes(chunks.join(''))]));
    }),
  );
});

test('a line of 1 MiB is a line; one byte more is an error, with its end in sight or not', async () => {
  const longest = Buffer.alloc(maxLineBytes, 'x');
  expect((await linesOf([longest, bytes('\n')]))[0]?.line).toHaveLength(maxLineBytes);
  await expect(linesOf([longest, bytes('x\n')])).rejects.toBeInstanceOf(LineTooLong);
  await expect(linesOf([longest, bytes('x')])).rejects.toBeInstanceOf(LineTooLong);
  await expect(linesOf([Buffer.concat([longest, bytes('x\n')])])).rejects.toBeInstanceOf(LineTooLong);
});

test('lines are handed out while the stream is still open; a broken stream is an ended one', async () => {
  const stream = new PassThrough();
  const reader = new LineReader(stream);
  stream.write('a\nb');
  expect(await reader.next()).toEqual(whole('a'));
  const next = reader.next();
  stream.destroy(new Error('reset'));
  expect(await next).toEqual({ line: 'b', partial: true });
  expect(await reader.next()).toBeUndefined();
});
