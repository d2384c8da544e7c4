/** A network that drops packets without a word: connections are made anew, and nobody is judged by what was not seen. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { enqueue } from '../../src/producer/enqueue.ts';
import { showRun } from '../../src/producer/runs.ts';
import { connectRedis, type RedisHandle } from '../../src/redis/connect.ts';
import { nudge, subscribeNudges } from '../../src/redis/nudges.ts';
import { Claims } from '../../src/worker/claims.ts';
import { openJournal } from '../../src/worker/journal.ts';
import { LostClaims } from '../../src/worker/lost-claims.ts';
import { announce } from '../../src/worker/presence.ts';
import { startBlackholeProxy, type BlackholeProxy } from './blackhole-proxy.ts';
import { buildKey, buildRequest, presenceOf, startTestRedis, type TestRedis } from './fixtures.ts';

/**
 * Milliseconds, in the place of five seconds. Connecting is held to it, too: as much as a busy machine may stand still.
 */
const limit = 1000;
let server: TestRedis;
let proxy: BlackholeProxy;
let redis: RedisHandle;

beforeEach(async () => {
  server = await startTestRedis();
  proxy = await startBlackholeProxy(server.socketPath);
  const target = { kind: 'url', url: proxy.socketPath, allowUnsafe: false } as const;
  redis = await connectRedis(target, 'test', limit);
});
afterEach(async () => {
  vi.useRealTimers();
  for (const part of [redis, proxy, server]) await part[Symbol.asyncDispose]();
});

test('a command that was swallowed is answered within seconds after the network is mended', async () => {
  await redis.client.set('a', '1');
  proxy.drop();
  const asked = redis.client.incr('a');
  await closed(redis.client); // noticed, though nothing was closed
  await closed(redis.client); // and so is a new connection that gets no answer
  const mended = performance.now();
  proxy.mend();
  expect(await asked).toBe(2);
  expect(performance.now() - mended).toBeLessThan(30_000); // TCP alone would notice after many minutes
});

test('a subscriber, which has nothing to ask, notices as well', async () => {
  await using nudges = await subscribeNudges(redis, 50);
  const heard = (): Promise<void> => new Promise((resolve) => void nudges.listen(() => resolve()));
  const first = heard();
  await nudge(server.redis, { host: 'a' });
  await first;
  proxy.drop();
  const asked = redis.client.ping();
  await closed(redis.client); // then as much time has passed for the subscriber
  proxy.mend();
  await asked;
  const again = heard();
  const timer = setInterval(() => void nudge(server.redis, { host: 'b' }), 20);
  await again;
  clearInterval(timer);
});

test('after an outage of its own the coordinator gives the others the time to come back', async () => {
  const journal = await openJournal(server.state);
  await using claims = new Claims(redis, journal);
  const { runId } = await enqueue(redis, buildRequest('long'), 'amd64');
  await claims.claim(buildKey);
  const patience = { every: 1e9, deadAfter: 10_000, regroup: 15_000, unlockedAfter: 10_000 };
  const lost = new LostClaims(server.redis, claims, patience, () => {});
  vi.useFakeTimers({ toFake: ['performance'] }); // its clock: however long a look takes, no time passes
  const lookAfter = async (milliseconds: number): Promise<string> => {
    vi.advanceTimersByTime(milliseconds);
    await lost.giveBack([buildKey]);
    return (await showRun(server.redis, runId)).state;
  };
  await lookAfter(0); // the connection is new to it: whatever was before, it has not seen
  expect(await lookAfter(14_999)).toBe('active'); // dead for longer than that would be enough else
  const about = presenceOf('late', journal.incarnation, []);
  const back = await announce(redis.client, redis.keys, () => about);
  expect(await lookAfter(60_000)).toBe('active');
  await back[Symbol.asyncDispose]();
  await lookAfter(0);
  expect(await lookAfter(9_999)).toBe('active');
  expect(await lookAfter(1)).toBe('waiting'); // seen without a break: no further delay
});

/** Unlike node's once, it takes no offence at the errors that are told before. */
function closed(client: RedisHandle['client']): Promise<void> {
  return new Promise((resolve) => void client.once('close', () => resolve()));
}
