/** Words of a line against what Python's urllib.parse says, which is what the stock servers and clients use. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeArgv, decodeWord, encodeArgv, encodeWord, parseLine } from '../../../src/protocol/adt-virt/words.ts';

// python3 -c 'from urllib.parse import quote; print(quote("..."))'
test.each([
  ['a b', 'a%20b'],
  ['x y,z%20', 'x%20y%2Cz%2520'],
  ['/usr/bin/env', '/usr/bin/env'],
  ['A-Za_z0.9~', 'A-Za_z0.9~'],
  ['a+b=c&d', 'a%2Bb%3Dc%26d'],
  ['é', '%C3%A9'],
  ['\u{1f4e6}', '%F0%9F%93%A6'],
  ['"\'\\$`', '%22%27%5C%24%60'],
  ['\n\0', '%0A%00'],
  ['', ''],
])('%j is encoded as by quote', (text, encoded) => {
  expect(encodeWord(text)).toBe(encoded);
  expect(decodeWord(encoded)).toBe(text);
});

test.each([
  ['open', ['open']],
  ['  open\t x  ', ['open', 'x']],
  ['capabilities\r', ['capabilities']],
  ['', []],
  [' \t ', []],
  ['op%65n', ['open']],
  ['copydown a%20b%25%2C%C3%A9 x+y', ['copydown', 'a b%,é', 'x+y']],
  ['%', ['%']],
  ['%4 %zz 100%', ['%4', '%zz', '100%']],
  ['%2f%2F', ['//']],
  ['%20', [' ']], // blanks that were encoded are part of the word
  ['%ff', ['\ufffd']],
])('the words of %j', (line, words) => {
  expect(parseLine(line)).toEqual(words);
});

test('an argument vector keeps its commas, blanks, percent signs and empty arguments', () => {
  expect(encodeArgv(['/bin/x', 'a,b', '', '50%'])).toBe('/bin/x,a%2Cb,,50%25');
  expect(decodeArgv('/bin/x,a%2Cb,,50%25')).toEqual(['/bin/x', 'a,b', '', '50%']);
});

// lone surrogates have no UTF-8
const text = fc.string({ unit: 'grapheme' }).filter((value) => Buffer.from(value).toString() === value);

test('whatever is encoded is one word without a comma, and comes back', () => {
  fc.assert(
    fc.property(text, (value) => {
      const encoded = encodeWord(value);
      expect(encoded).toMatch(/^[A-Za-z0-9_.~/%-]*$/);
      expect(decodeWord(encoded)).toBe(value);
      expect(parseLine(` ${encoded} `)).toEqual(value === '' ? [] : [value]);
    }),
  );
});

test('decoding never throws', () => {
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (value) => void parseLine(value)));
});
