/** When a claim is renewed, and what stops its job; on a clock of the test's own. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Interruption, LeaseLost } from '../../../src/protocol/errors.ts';
import type { Nudge } from '../../../src/protocol/nudge.ts';
import { redisKeys } from '../../../src/protocol/routing.ts';
import type { RedisHandle } from '../../../src/redis/connect.ts';
import { keepRenewed, type Renewal } from '../../../src/worker/renewal.ts';

const times = { every: 30_000, deadline: 540_000 };
const keys = redisKeys('t');

let renew: ReturnType<typeof vi.fn<() => Promise<boolean>>>;
let cancelled: string | null;
let redisAway: boolean;
let say: (nudge: Nudge) => void;
let listening: boolean;
let shutdown: AbortController;
let renewal: Renewal;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'performance'] });
  renew = vi.fn<() => Promise<boolean>>(() => (redisAway ? new Promise<boolean>(() => {}) : Promise.resolve(true)));
  [cancelled, redisAway, listening] = [null, false, false];
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
  renewal = keepRenewed({ runId: 'run', renew }, redis, { listen }, shutdown.signal, times);
});
afterEach(() => {
  renewal[Symbol.dispose]();
  vi.useRealTimers();
});

test('renews every 30 seconds, and stops nothing', async () => {
  await vi.advanceTimersByTimeAsync(10 * 3_600_000);
  expect(renew).toHaveBeenCalledTimes(10 * 120);
  expect(renewal.signal.aborted).toBe(false);
});

test('a claim that is lost', async () => {
  renew.mockResolvedValue(false);
  await vi.advanceTimersByTimeAsync(30_000);
  expect(renewal.signal.reason).toBeInstanceOf(LeaseLost);
});

test('a cancel is seen at the next renewal, also when its nudge was lost', async () => {
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
  await vi.advanceTimersByTimeAsync(3_600_000);
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
  expect(listening).toBe(false);
});
