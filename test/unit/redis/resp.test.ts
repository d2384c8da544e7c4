/** Which ends of an append-only file are merely too short. */
import { describe, expect, test } from 'vitest';
import { isCutShort } from '../../../src/redis/resp.ts';

const commands = '*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$12\r\nvalue\r\n\r\nend\r\n';

describe('the end of an append-only file', () => {
  test('every beginning of it is cut short', () => {
    for (let length = 0; length <= commands.length; length += 1) {
      expect(isCutShort(Buffer.from(commands.slice(0, length))), String(length)).toBe(true);
    }
  });

  test.each([
    ['*1\r\n$x\r\nMULTI\r\n'],
    ['$5\r\nMULTI\r\n'],
    ['*1\r\n$4\r\nMULTI\r\n'],
    ['*1\r\n$6\r\nMULTI\r\n*1'],
    ['*1\n$5\r\nMULTI\r\n'],
    ['\0\0\0\0'],
    ['*99999999999\r\n'],
  ])('%j is damaged', (text) => {
    expect(isCutShort(Buffer.from(text))).toBe(false);
  });
});
