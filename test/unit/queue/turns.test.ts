/** Which queue is next, on a clock of the test's own. */
import { beforeEach, describe, expect, test } from 'vitest';
import { Turns } from '../../../src/worker/turns.ts';

let now = 0;
let turns: Turns;
beforeEach(() => {
  now = 0;
  turns = new Turns(60_000, () => now);
});

/** One look at queues that are named after their first job's letter: `a1` is the first job of a. */
function look(blocked: readonly string[], free: readonly string[] = []): string[] {
  const first = new Map([...blocked, ...free].map((job) => [job.slice(0, 1), job]));
  turns.note(new Set(blocked.map((job) => job.slice(0, 1))), first);
  return turns.starving();
}

describe('turns', () => {
  test('begin with another queue each time', () => {
    const firsts = [0, 1, 2, 3].map(() => turns.inTurn(['a', 'b', 'c'], undefined));
    expect(firsts.map((keys) => keys.join(''))).toEqual(['abc', 'bca', 'cab', 'abc']);
    expect(turns.inTurn([], undefined)).toEqual([]);
  });

  test('the one for which room is kept comes before all others', () => {
    expect(turns.inTurn(['a', 'b', 'c'], 'c')).toEqual(['c', 'a', 'b']);
    expect(turns.inTurn(['a', 'b'], 'gone')).toEqual(['b', 'a']);
  });
});

describe('a queue starves', () => {
  test('when its first job has found no room for longer than the patience', () => {
    expect(look(['a1'])).toEqual([]);
    now = 59_999;
    expect(look(['a1'])).toEqual([]);
    now = 60_000;
    expect(look(['a1'])).toEqual(['a']);
  });

  test('before another that has waited for less', () => {
    look(['b1']);
    now = 10;
    look(['a1', 'b1']);
    now = 60_000;
    expect(look(['a1', 'b1'])).toEqual(['b']);
    now = 60_010;
    expect(look(['a1', 'b1'])).toEqual(['b', 'a']);
  });

  test('though there was room now and then, and another took it', () => {
    look(['a1']);
    now = 30_000;
    look([], ['a1']);
    now = 60_000;
    expect(look(['a1'])).toEqual(['a']);
  });

  test('not when the job has begun here, or another host has taken it', () => {
    look(['a1', 'b1']);
    turns.begun('a');
    now = 60_000;
    expect(look(['a2', 'b2'])).toEqual([]);
    now = 119_999;
    expect(look(['a2', 'b2'])).toEqual([]);
    now = 120_000;
    expect(look(['a2', 'b2'])).toEqual(['a', 'b']);
  });

  test('not when it is empty, paused or not offered any more', () => {
    look(['a1', 'b1']);
    now = 60_000;
    expect(look(['b1'])).toEqual(['b']);
    expect(turns.refusedOf('a')).toBeUndefined();
    expect(look([])).toEqual([]);
  });

  test('not by waiting for its turn alone: there was room', () => {
    look([], ['a1']);
    now = 60_000;
    expect(look([], ['a1'])).toEqual([]);
  });
});
