/** What stops a job, on a clock of the test's own; the thread that renews its claim is played by the test. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Interruption, LeaseLost } from '../../../src/protocol/errors.ts';
import type { Nudge } from '../../../src/protocol/nudge.ts';
import { redisKeys } from '../../../src/protocol/routing.ts';
import type { RedisHandle } from '../../../src/redis/connect.ts';
import { monotonic } from '../../../src/worker/monotonic.ts';
import { keepRenewed, type Renewal } from '../../../src/worker/renewal.ts';
import type { ClaimHeld, Pace } from '../../../src/worker/renewals.ts';

const times = { every: 30_000, lock: 600_000, deadline: 540_000 };
const claim = { key: 'k', runId: 'run', attempt: 1, token: 't' };
const keys = redisKeys('t');

let held: (ClaimHeld & Pace)[];
let lose: () => void;
let renewed: number;
let cancelled: string | null;
let redisAway: boolean;
let say: (nudge: Nudge) => void;
let listening: boolean;
let shutdown: AbortController;
let renewal: Renewal;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'hrtime'] });
  [cancelled, redisAway, listening, held, renewed] = [null, false, false, [], monotonic()];
  shutdown = new AbortController();
  // only faults are injected here: what stands in Redis, and whether it answers
  const get = (key: string): Promise<string | null> => {
    if (redisAway) return new Promise(() => {});
    return Promise.resolve(key === keys.cancel('run') ? cancelled : null);
  };
  const redis = { client: { get }, keys } as unknown as RedisHandle;
  const listen = (each: (nudge: Nudge) => void): (() => void) => {
    [say, listening] = [each, true];
    return () => void (listening = false);
  };
  const hold = (each: ClaimHeld, pace: Pace, lost: () => void) => {
    held.push({ ...each, ...pace });
    lose = lost;
    return { renewed: () => renewed, [Symbol.dispose]: () => void held.pop() };
  };
  renewal = keepRenewed(claim, { redis, nudges: { listen }, renewals: { hold } }, shutdown.signal, times);
});
afterEach(() => {
  renewal[Symbol.dispose]();
  vi.useRealTimers();
});

test('its claim is held, at the pace that was asked for', () => {
  expect(held).toMatchObject([{ ...claim, every: 30_000, lock: 600_000 }]);
});

test('a claim that is lost', () => {
  lose();
  expect(renewal.signal.reason).toBeInstanceOf(LeaseLost);
});

test('a cancel is seen within 30 seconds, also when its nudge was lost', async () => {
  cancelled = 'enough';
  await vi.advanceTimersByTimeAsync(29_999);
  expect(renewal.signal.aborted).toBe(false);
  await vi.advanceTimersByTimeAsync(1);
  expect(renewal.signal.reason).toMatchObject({ name: 'Interruption', reason: 'cancelled', message: 'enough' });
});

test('a cancel is seen at once when it is told; another run’s does not count', async () => {
  cancelled = 'enough';
  say({ cancel: 'another' });
  say({ ended: 'run' });
  await vi.advanceTimersByTimeAsync(0);
  expect(renewal.signal.aborted).toBe(false);
  say({ cancel: 'run' });
  await vi.advanceTimersByTimeAsync(0);
  expect(renewal.signal.reason).toBeInstanceOf(Interruption);
});

test('while Redis is away, the local deadline counts from the last renewal that succeeded', async () => {
  await vi.advanceTimersByTimeAsync(300_000);
  renewed = monotonic();
  redisAway = true;
  await vi.advanceTimersByTimeAsync(539_000);
  expect(renewal.signal.aborted).toBe(false);
  await vi.advanceTimersByTimeAsync(2_000);
  expect(renewal.signal.reason).toBeInstanceOf(LeaseLost);
});

test('a Redis that comes back in time changes nothing', async () => {
  redisAway = true;
  await vi.advanceTimersByTimeAsync(500_000);
  redisAway = false;
  renewed = monotonic();
  await vi.advanceTimersByTimeAsync(500_000);
  expect(renewal.signal.aborted).toBe(false);
});

test('the first reason stays', async () => {
  shutdown.abort(new Interruption('shutdown'));
  cancelled = 'too late';
  await vi.advanceTimersByTimeAsync(60_000);
  expect(renewal.signal.reason).toMatchObject({ reason: 'shutdown' });
});

test('nothing is left running when it ends', () => {
  renewal[Symbol.dispose]();
  expect(vi.getTimerCount()).toBe(0);
  expect([held, listening]).toEqual([[], false]);
});
