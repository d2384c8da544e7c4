/** When a host stops taking what fails again and again, and when it tries again; on a clock of the test's own. */
import { beforeEach, describe, expect, test } from 'vitest';
import { Breaker } from '../../../src/worker/breaker.ts';
import type { RanOn } from '../../../src/worker/host.ts';

const times = { image: 3, host: 5, probe: 1000, longestProbe: 4000 };
let now = 0;
let breaker: Breaker;
beforeEach(() => {
  now = 0;
  breaker = new Breaker(times, () => now);
});

const on = (image: string, generation = 1, backend = 'overlay'): RanOn => ({ image, backend, generation });

function fail(what: RanOn, count: number): void {
  for (let i = 0; i < count; i += 1) breaker.began(what).ended({ kind: 'testbed', message: 'no space', on: what });
}
const succeed = (what: RanOn): void => breaker.began(what).ended({ kind: 'completed', on: what });

describe('a generation on a backend', () => {
  test('is not taken after three failures in a row; others are', () => {
    fail(on('sid'), 2);
    expect(breaker.allows(on('sid'))).toBe(true);
    fail(on('sid'), 1);
    expect(breaker.allows(on('sid'))).toBe(false);
    expect(breaker.allows(on('sid', 1, 'docker'))).toBe(true);
    expect(breaker.allows(on('sid', 2))).toBe(true);
    expect(breaker.allows(on('trixie'))).toBe(true);
    expect(breaker.troubles()).toEqual(['sid@1 on overlay: failed 3 times in a row: no space']);
  });

  test('is the one on which the job really ran, whatever was expected', () => {
    for (let i = 0; i < 3; i += 1) {
      breaker.began(on('sid', 1)).ended({ kind: 'testbed', message: 'no space', on: on('sid', 2, 'docker') });
    }
    expect(breaker.allows(on('sid', 1))).toBe(true);
    expect(breaker.allows(on('sid', 2, 'docker'))).toBe(false);
  });

  test('of an external server has no number', () => {
    fail({ image: 'lxc', backend: 'external', generation: undefined }, 3);
    expect(breaker.troubles()).toEqual(['lxc on external: failed 3 times in a row: no space']);
  });

  test('is forgotten when another one works: it was replaced, and nothing will run on it again', () => {
    fail(on('sid', 41), 3);
    fail(on('sid', 41, 'docker'), 1);
    succeed(on('trixie', 42));
    expect(breaker.troubles()).toEqual(['sid@41 on overlay: failed 3 times in a row: no space']);
    succeed(on('sid', 42));
    expect(breaker.troubles()).toEqual([]);
    fail(on('sid', 41, 'docker'), 2);
    expect(breaker.allows(on('sid', 41, 'docker'))).toBe(false); // another backend's trouble is its own
  });

  test('one success begins anew', () => {
    fail(on('sid'), 2);
    succeed(on('sid'));
    fail(on('sid'), 2);
    expect(breaker.allows(on('sid'))).toBe(true);
    expect(breaker.troubles()).toEqual([]);
  });
});

describe('the host', () => {
  test('takes nothing after five failures in a row, of whatever', () => {
    for (const image of ['a', 'b', 'c', 'd', 'e']) fail(on(image), 1);
    expect(breaker.allows(on('f'))).toBe(false);
    expect(breaker.allowsHost()).toBe(false);
    succeed(on('a'));
    expect(breaker.allows(on('f'))).toBe(true);
  });

  test('is to blame for what fails before anything is opened, and its images are not', () => {
    for (let i = 0; i < 5; i += 1) breaker.began(on('sid')).ended({ kind: 'host', message: 'ENOSPC', on: on('sid') });
    expect(breaker.troubles()).toEqual(['this host: failed 5 times in a row: ENOSPC']);
  });

  test('is not to blame for an image that somebody else writes', () => {
    for (let i = 0; i < 9; i += 1) breaker.began(on('sid')).ended({ kind: 'image', message: 'locked', on: on('sid') });
    expect(breaker.allows(on('sid'))).toBe(true);
    expect(breaker.watches).toBe(false);
  });
});

describe('a probe', () => {
  test('is one job; the next may come after twice the time, at most the longest', () => {
    fail(on('sid'), 3);
    for (const wait of [1000, 2000, 4000, 4000]) {
      now += wait - 1;
      expect(breaker.allows(on('sid'))).toBe(false);
      now += 1;
      expect(breaker.allows(on('sid'))).toBe(true);
      const probe = breaker.began(on('sid'));
      expect(breaker.allows(on('sid'))).toBe(false);
      now += 10_000; // however long it takes
      expect(breaker.allows(on('sid'))).toBe(false);
      now -= 10_000;
      probe.ended({ kind: 'testbed', message: 'no space', on: on('sid') });
      expect(breaker.allows(on('sid'))).toBe(false);
    }
  });

  test('that succeeds ends it', () => {
    fail(on('sid'), 3);
    now = 1000;
    succeed(on('sid'));
    expect(breaker.allows(on('sid'))).toBe(true);
  });

  test('that was not made is given back: another job may be it at once', () => {
    fail(on('sid'), 3);
    now = 1000;
    const left = breaker.began(on('sid'));
    expect(breaker.allows(on('sid'))).toBe(false);
    left.ended({ kind: 'other' });
    expect(breaker.allows(on('sid'))).toBe(true);
  });
});
