/** When a host stops taking what fails again and again, and when it tries again; on a clock of the test's own. */
import { beforeEach, describe, expect, test } from 'vitest';
import { Breaker } from '../../../src/worker/breaker.ts';

const times = { image: 3, host: 5, probe: 1000, longestProbe: 4000 };
let now = 0;
let breaker: Breaker;
beforeEach(() => {
  now = 0;
  breaker = new Breaker(times, () => now);
});

function fail(image: string, count: number, backend = 'any'): void {
  for (let i = 0; i < count; i += 1) breaker.failed(image, backend, 'no space');
}

describe('an image on a backend', () => {
  test('is not taken after three failures in a row; others are', () => {
    fail('sid', 2);
    expect(breaker.allows('sid', 'any')).toBe(true);
    fail('sid', 1);
    expect(breaker.allows('sid', 'any')).toBe(false);
    expect(breaker.allows('sid', 'docker')).toBe(true);
    expect(breaker.allows('trixie', 'any')).toBe(true);
    expect(breaker.troubles()).toEqual(['sid on any: failed 3 times in a row: no space']);
  });

  test('one success begins anew', () => {
    fail('sid', 2);
    breaker.succeeded('sid', 'any');
    fail('sid', 2);
    expect(breaker.allows('sid', 'any')).toBe(true);
    expect(breaker.troubles()).toEqual([]);
  });
});

describe('the host', () => {
  test('takes nothing after five failures in a row, of whatever', () => {
    for (const image of ['a', 'b', 'c', 'd', 'e']) fail(image, 1);
    expect(breaker.allows('f', 'any')).toBe(false);
    breaker.succeeded('a', 'any');
    expect(breaker.allows('f', 'any')).toBe(true);
  });
});

describe('a probe', () => {
  test('is one job; the next may come after twice the time, at most the longest', () => {
    fail('sid', 3);
    for (const wait of [1000, 2000, 4000, 4000]) {
      now += wait - 1;
      expect(breaker.allows('sid', 'any')).toBe(false);
      now += 1;
      expect(breaker.allows('sid', 'any')).toBe(true);
      breaker.began('sid', 'any');
      expect(breaker.allows('sid', 'any')).toBe(false);
      fail('sid', 1);
      expect(breaker.allows('sid', 'any')).toBe(false);
    }
  });

  test('that succeeds ends it', () => {
    fail('sid', 3);
    now = 1000;
    breaker.began('sid', 'any');
    breaker.succeeded('sid', 'any');
    expect(breaker.allows('sid', 'any')).toBe(true);
  });
});
