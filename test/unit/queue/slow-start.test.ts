/** How many jobs a host may have at risk before anything has shown that it works. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { SlowStart, type Risk } from '../../../src/worker/slow-start.ts';

let start: SlowStart;
beforeEach(() => {
  vi.useFakeTimers();
  start = new SlowStart(10_000);
});
afterEach(() => void vi.useRealTimers());

/** As many as may begin now, up to 32. */
function fill(): Risk[] {
  const begun: Risk[] = [];
  while (start.room && begun.length < 32) begun.push(start.began());
  return begun;
}

test('four at first, one less after each failure, at least one', () => {
  const begun = fill();
  expect(begun).toHaveLength(4);
  for (const risk of begun) risk.ended('badly');
  expect(fill()).toHaveLength(1);
});

test('one success lifts the limit, the next failure brings it back', () => {
  start.began().ended('well');
  const begun = fill();
  expect(begun).toHaveLength(32);
  begun[0]?.ended('badly');
  expect(start.room).toBe(false);
});

test('jobs that have run for a while are proof, and somebody hears of it', () => {
  const heard = vi.fn<() => void>();
  start.listen(heard);
  expect(fill()).toHaveLength(4);
  vi.advanceTimersByTime(10_000);
  expect(heard).toHaveBeenCalledTimes(4);
  expect(fill()).toHaveLength(12);
  vi.advanceTimersByTime(10_000);
  expect(fill()).toHaveLength(32);
});

test('a job that ends for reasons of its own says nothing', () => {
  start.began().ended('otherwise');
  expect(fill()).toHaveLength(4);
});
