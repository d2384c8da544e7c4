/** What a message shows of a server's address: never its password, however badly the address is written. */
import { expect, test } from 'vitest';
import { redact } from '../../../src/redis/connect.ts';

const addresses: [string, string][] = [
  ['redis://h:6379/1', 'redis://h:6379/1'],
  ['rediss://user:hush@h/', 'rediss://h/'],
  ['redis://:hu@hush@h/', 'redis://h/'],
  ['redis://:hu/hush@h/', 'redis://h/'],
  ['redis://:hu#hush@h/', 'redis://h/'],
  ['redis://h/?password=hush', 'redis://h/'],
  ['redis://:hu?hush@h/', 'redis://…'],
  ['redis://h/?password=hush@hush', 'redis://…'],
  ['unix:///run/redis.sock?password=hush', 'unix:///run/redis.sock'],
  ['/run/redis.sock', '/run/redis.sock'],
  ['user:hush@h:6379', 'h:6379'],
];

test.each(addresses)('%s', (url, shown) => {
  expect(redact(url)).toBe(shown);
});
