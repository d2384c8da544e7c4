/** What the thread of renewals does, on a clock of the test's own; Redis is played by the test: what it answers, and when. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { redisKeys } from '../../../src/protocol/routing.ts';
import type { RedisHandle } from '../../../src/redis/connect.ts';
import { monotonic } from '../../../src/worker/monotonic.ts';
import { Renewing } from '../../../src/worker/renewing.ts';

const claim = { key: 'k', runId: 'run', attempt: 1, token: 't' };
const pace = { every: 30_000, lock: 600_000 };
const heart = { member: 'bay1/i', beat: 10_000, alive: 30_000 };

let renewed: SharedArrayBuffer;
let answer: ReturnType<typeof vi.fn<() => Promise<number>>>;
let connect: ReturnType<typeof vi.fn<() => Promise<RedisHandle>>>;
let zadd: ReturnType<typeof vi.fn<() => Promise<number>>>;
let lost: string[];
let renewing: Renewing;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'hrtime'] });
  answer = vi.fn<() => Promise<number>>(() => Promise.resolve(1));
  zadd = vi.fn<() => Promise<number>>(() => Promise.resolve(0));
  const client = { eval: answer, zadd, time: () => Promise.resolve([1, 0]) };
  const redis = { client, keys: redisKeys('t') } as unknown as RedisHandle;
  connect = vi.fn<() => Promise<RedisHandle>>(() => Promise.resolve(redis));
  [lost, renewed] = [[], new SharedArrayBuffer(8)];
  renewing = new Renewing({ connect, lost: (token) => void lost.push(token), patience: 600_000 });
});
afterEach(() => void vi.useRealTimers());

const hold = (): void => renewing.hear({ say: 'hold', claim, pace, renewed });
const lastSuccess = (): number => Number(new BigInt64Array(renewed)[0]);

/** Time goes by, and the other thread says that it is there. */
async function pass(milliseconds: number): Promise<void> {
  for (let gone = 0; gone < milliseconds; gone += 10_000) {
    renewing.hear({ say: 'here' });
    await vi.advanceTimersByTimeAsync(Math.min(10_000, milliseconds - gone));
  }
}

test('renews every 30 seconds, on one connection that it makes then', async () => {
  hold();
  await pass(29_000);
  expect(connect).not.toHaveBeenCalled();
  await pass(3_600_000);
  expect([connect.mock.calls.length, answer.mock.calls.length]).toEqual([1, 120]);
  expect(monotonic() - lastSuccess()).toBeLessThan(30_000);
  expect(lost).toEqual([]);
});

test('says once what is lost, and nothing of what was let go', async () => {
  answer.mockResolvedValue(0);
  hold();
  await pass(120_000);
  expect(lost).toEqual(['t']);
  hold();
  renewing.hear({ say: 'let-go', token: 't' });
  await pass(120_000);
  expect(lost).toEqual(['t']);
  expect(vi.getTimerCount()).toBe(0);
});

test('an answer that comes when the claim was let go says nothing', async () => {
  let reply: (each: number) => void = () => {};
  answer.mockReturnValue(new Promise((resolve) => (reply = resolve)));
  hold();
  await pass(30_000);
  renewing.hear({ say: 'let-go', token: 't' });
  reply(0);
  await pass(1000);
  expect(lost).toEqual([]);
});

test('while Redis is away or refuses, nothing is lost, and one question waits', async () => {
  hold();
  connect.mockRejectedValueOnce(new Error('no answer')).mockRejectedValueOnce(new Error('no answer'));
  await pass(90_000);
  expect(connect).toHaveBeenCalledTimes(3);
  answer.mockRejectedValueOnce(new Error('MISCONF'));
  await pass(30_000);
  let reply: (each: number) => void = () => {};
  answer.mockReturnValueOnce(new Promise((resolve) => (reply = resolve)));
  const asked = answer.mock.calls.length;
  await pass(2 * 3_600_000);
  expect([lost, answer.mock.calls.length - asked]).toEqual([[], 1]);
  reply(1); // and it asks again: that it began two hours ago says too little
  await pass(1000);
  expect(monotonic() - lastSuccess()).toBeLessThanOrEqual(1000);
});

test('a thread that is not heard of for ten minutes is given up, and taken up when it is heard', async () => {
  hold();
  renewing.hear({ say: 'keep-alive', heart });
  await vi.advanceTimersByTimeAsync(3_600_000);
  expect(answer).toHaveBeenCalledTimes(20);
  const beats = zadd.mock.calls.length;
  await vi.advanceTimersByTimeAsync(3_600_000);
  expect([answer.mock.calls.length, zadd.mock.calls.length]).toEqual([20, beats]);
  renewing.hear({ say: 'here' });
  await vi.advanceTimersByTimeAsync(30_000);
  expect(answer).toHaveBeenCalledTimes(21);
});

test('a heartbeat is told only when it is late, and not any more when it is withdrawn', async () => {
  renewing.hear({ say: 'keep-alive', heart });
  for (let beats = 0; beats < 10; beats += 1) {
    await pass(10_000);
    renewing.hear({ say: 'beaten' });
  }
  expect(connect).not.toHaveBeenCalled();
  await pass(60_000);
  expect(zadd).toHaveBeenCalledTimes(4);
  expect(zadd).toHaveBeenLastCalledWith(redisKeys('t').workers, 'XX', 31_000, 'bay1/i');
  renewing.hear({ say: 'quiet' });
  await pass(60_000);
  expect(zadd).toHaveBeenCalledTimes(4);
  expect(vi.getTimerCount()).toBe(0);
});
