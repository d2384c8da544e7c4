/** The write lease of an image: one holder, fences that only grow, and a holder that learns of its loss. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { breakLease, redisLeases } from '../../src/golden/lease.ts';
import { leasedImages, showLease } from '../../src/redis/lease-view.ts';
import { ImageLeaseLost } from '../../src/protocol/errors.ts';
import { GoldenRefusal } from '../../src/protocol/testbed.ts';
import { connectRedis } from '../../src/redis/connect.ts';
import { redisTime } from '../../src/redis/time.ts';
import { startTestRedis, type TestRedis } from './fixtures.ts';
import { startLosingProxy } from './losing-proxy.ts';
import { linesOf } from '../lines.ts';

let server: TestRedis;
const never = new AbortController().signal;
beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server[Symbol.asyncDispose]());

const leases = (options: Partial<Parameters<typeof redisLeases>[1]> = {}): ReturnType<typeof redisLeases> =>
  redisLeases(server.redis, { owner: 'me', ...options });

test('two contenders: the second waits for the first, and has a greater fence', async () => {
  const first = await leases({ owner: 'first' }).acquire('a', 0, never);
  expect(await showLease(server.redis, 'a')).toMatchObject({ owner: 'first', fence: first.fence });
  let second: Awaited<ReturnType<ReturnType<typeof leases>['acquire']>> | undefined;
  const waiting = leases()
    .acquire('a', 0, never)
    .then((lease) => (second = lease));
  await expect(leases({ wait: 0 }).acquire('a', 0, never)).rejects.toThrow(/first is writing a/);
  await expect(leases({ wait: 0 }).acquire('a', 0, never)).rejects.toBeInstanceOf(GoldenRefusal);
  expect(second).toBeUndefined();
  await first[Symbol.asyncDispose]();
  const held = await waiting;
  expect(held.fence).toBeGreaterThan(first.fence);
  await held[Symbol.asyncDispose]();
  expect(await showLease(server.redis, 'a')).toBeUndefined();
});

test('who waits is told, and for no longer than it waits', async () => {
  const first = await leases({ owner: 'first' }).acquire('w', 0, never);
  const stop = new AbortController();
  const asking = leases({ owner: 'second' }).acquire('w', 0, stop.signal);
  let waiting: readonly { readonly owner: string }[] = [];
  while (waiting.length === 0) waiting = (await showLease(server.redis, 'w'))?.waiting ?? [];
  expect(waiting).toMatchObject([{ owner: 'second' }]);
  stop.abort(new Error('enough'));
  await expect(asking).rejects.toThrow('enough');
  expect((await showLease(server.redis, 'w'))?.waiting).toEqual([]);
  await first[Symbol.asyncDispose]();
});

test('a lease is held from when it was got, not from when somebody began to wait for it', async () => {
  const first = await leases({ owner: 'first' }).acquire('aged', 0, never);
  const second = leases({ owner: 'second' }).acquire('aged', 0, never);
  let waits: number | undefined;
  while (waits === undefined) waits = (await showLease(server.redis, 'aged'))?.waiting[0]?.since;
  let released = await redisTime(server.redis.client);
  while (released < waits + 100) released = await redisTime(server.redis.client);
  await first[Symbol.asyncDispose]();
  await using held = await second;
  expect(held.signal.aborted).toBe(false);
  expect(JSON.parse((await server.redis.client.get(server.redis.keys.lease('aged'))) ?? '')).toMatchObject({
    owner: 'second',
    since: expect.toSatisfy((since: number) => since >= released),
  });
});

test('hosts whose clocks are an hour off see each other’s leases, and do not forget who waits', async () => {
  const hour = 3_600_000;
  let skew = 0;
  const real = Date.now;
  const clock = vi.spyOn(Date, 'now').mockImplementation(() => real() + skew);
  const stop = new AbortController();
  const asking: Promise<unknown>[] = [];
  try {
    skew = hour;
    await using held = await leases({ owner: 'ahead' }).acquire('skewed', 0, never);
    expect(held.fence).toBe(1);
    skew = -hour;
    asking.push(leases({ owner: 'behind' }).acquire('skewed', 0, stop.signal));
    const shown = async (count: number) => {
      for (;;) {
        const lease = await showLease(server.redis, 'skewed');
        if (lease?.waiting.length === count) return lease;
      }
    };
    await shown(1);
    skew = hour;
    asking.push(leases({ owner: 'ahead, too' }).acquire('skewed', 0, stop.signal));
    for (skew of [0, hour, -hour]) {
      const lease = await shown(2);
      expect(lease.waiting.map(({ owner }) => owner)).toEqual(['behind', 'ahead, too']);
      for (const { since } of [lease, ...lease.waiting]) expect(Math.abs(Date.now() - since)).toBeLessThan(30_000);
    }
  } finally {
    stop.abort();
    await Promise.allSettled(asking);
    clock.mockRestore();
  }
});

test('a break takes what it tells of: with a fence, only that', async () => {
  const first = await leases({ owner: 'first' }).acquire('broken', 0, never);
  await first[Symbol.asyncDispose]();
  await using second = await leases({ owner: 'second' }).acquire('broken', 0, never);
  expect(await breakLease(server.redis, 'broken', first.fence)).toBeUndefined(); // its successor is not meant
  expect(await showLease(server.redis, 'broken')).toMatchObject({ owner: 'second' });
  expect(await breakLease(server.redis, 'broken', second.fence)).toMatchObject({
    owner: 'second',
    fence: second.fence,
  });
  expect(await showLease(server.redis, 'broken')).toBeUndefined();
});

test('a waiter that was killed does not stay in the list of those who wait', async () => {
  await using held = await leases({ owner: 'first' }).acquire('trimmed', 0, never);
  const waits = server.redis.keys.leaseWaits('trimmed');
  await server.redis.client.zadd(waits, String(Date.now() - 60_000), '{"owner":"killed","id":"x","since":0}');
  const told: string[] = [];
  const onWait = (line: string): void => void told.push(line);
  const stop = new AbortController();
  const asking = leases({ owner: 'second', onWait }).acquire('trimmed', 0, stop.signal);
  while ((await server.redis.client.zcard(waits)) !== 1 || (await server.redis.client.pttl(waits)) < 0);
  expect(await server.redis.client.zrangebyscore(waits, '-inf', '+inf')).toEqual([expect.stringContaining('"second"')]);
  expect(told).toEqual(['waits for first, who writes trimmed in the fleet']);
  stop.abort(new Error('enough'));
  await expect(asking).rejects.toThrow('enough');
  expect(held.signal.aborted).toBe(false);
});

test('all leases are listed, by whichever host they are held, and however much else there is', async () => {
  const { client } = server.redis;
  await client.mset(...Array.from({ length: 20_000 }, (_, index) => [`other:${index}`, 'x']).flat());
  await using far = await leases({ owner: 'far' }).acquire('of-another-host', 0, never);
  await using near = await leases({ owner: 'near' }).acquire('here', 0, never);
  expect(await leasedImages(server.redis)).toEqual(['here', 'of-another-host']);
  expect([far.fence, near.fence]).toEqual([1, 1]);
});

test('images do not wait for each other', async () => {
  await using one = await leases({ wait: 0 }).acquire('b', 0, never);
  await using other = await leases({ wait: 0 }).acquire('c', 0, never);
  expect([one.signal.aborted, other.signal.aborted]).toEqual([false, false]);
});

test('a Redis that lost its data repeats no fence: the store’s floor', async () => {
  const before = await leases().acquire('d', 0, never);
  await before[Symbol.asyncDispose]();
  await server.redis.client.flushall();
  await using after = await leases().acquire('d', before.fence, never);
  expect(after.fence).toBeGreaterThan(before.fence);
  await using far = await leases().acquire('e', 1000, never);
  expect(far.fence).toBe(1001);
});

test('a holder whose lease was broken learns of it, and its release does not hurt the next', async () => {
  const first = await leases({ ttl: 400 }).acquire('f', 0, never);
  const lost = new Promise((resolve) => first.signal.addEventListener('abort', resolve, { once: true }));
  expect(await breakLease(server.redis, 'f')).toMatchObject({ owner: 'me', fence: first.fence });
  expect(await breakLease(server.redis, 'f')).toBeUndefined();
  await using second = await leases().acquire('f', first.fence, never);
  await lost;
  expect(first.signal.reason).toBeInstanceOf(ImageLeaseLost);
  await first[Symbol.asyncDispose]();
  expect(await showLease(server.redis, 'f')).toMatchObject({ fence: second.fence });
});

test('while Redis does not answer, the local clock ends the lease', async () => {
  await using other = await startTestRedis();
  const lease = await redisLeases(other.redis, { owner: 'me', ttl: 400 }).acquire('g', 0, never);
  const pid = Number(/^process_id:(\d+)/m.exec(await other.redis.client.info('server'))?.[1]);
  process.kill(pid, 'SIGSTOP');
  try {
    await new Promise((resolve) => lease.signal.addEventListener('abort', resolve, { once: true }));
    expect(lease.signal.reason).toBeInstanceOf(ImageLeaseLost);
  } finally {
    process.kill(pid, 'SIGCONT');
  }
  await lease[Symbol.asyncDispose]();
});

test('a holder stopped for longer than its lease lives is told, and the next has a greater fence', async () => {
  const script = fileURLToPath(new URL('hold-lease.ts', import.meta.url));
  const args = ['--import', 'tsx', script, server.socketPath, 'stopped', '400'];
  const holder = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines: string[] = [];
  const next = linesOf(holder.stdout);
  lines.push(await next());
  holder.kill('SIGSTOP');
  await using mine = await leases().acquire('stopped', 0, never); // waits until it has run out
  const said = next();
  holder.kill('SIGCONT');
  lines.push(await said);
  await once(holder, 'exit');
  expect(lines).toEqual(['1', 'ImageLeaseLost']);
  expect(mine.fence).toBeGreaterThan(1);
  expect(mine.signal.aborted).toBe(false);
  expect(await showLease(server.redis, 'stopped')).toMatchObject({ owner: 'me', fence: mine.fence });
});

test('of many contenders one holds at a time, and fences grow in the order of holding', async () => {
  const fences: number[] = [];
  let holding = 0;
  await Promise.all(
    Array.from({ length: 5 }, async () => {
      await using lease = await leases().acquire('many', 0, never);
      holding += 1;
      expect(holding).toBe(1);
      fences.push(lease.fence);
      await server.redis.client.ping();
      holding -= 1;
    }),
  );
  expect(fences).toEqual(fences.toSorted((a, b) => a - b));
  expect(new Set(fences).size).toBe(5);
});

test('a reply that is lost: the lease is ours at once, not somebody’s until it runs out', async () => {
  await using proxy = await startLosingProxy(server.socketPath);
  await using far = await connectRedis({ kind: 'embedded', socketPath: proxy.socketPath }, 'test');
  const lost = proxy.loseReplyTo(/eval/i);
  await using lease = await redisLeases(far, { owner: 'far', wait: 0 }).acquire('lost', 0, never);
  await lost;
  expect(await showLease(server.redis, 'lost')).toMatchObject({ owner: 'far', fence: lease.fence });
  await lease[Symbol.asyncDispose]();
  expect(await showLease(server.redis, 'lost')).toBeUndefined();
});

test('while Redis does not answer, asking can be given up, and ending does not hang', async () => {
  await using other = await startTestRedis();
  const held = await redisLeases(other.redis, { owner: 'me' }).acquire('i', 0, never);
  const pid = Number(/^process_id:(\d+)/m.exec(await other.redis.client.info('server'))?.[1]);
  process.kill(pid, 'SIGSTOP');
  const stop = new AbortController();
  try {
    const asking = redisLeases(other.redis, { owner: 'me' }).acquire('j', 0, stop.signal);
    stop.abort(new Error('enough'));
    await expect(asking).rejects.toThrow('enough');
    await held[Symbol.asyncDispose]();
  } finally {
    process.kill(pid, 'SIGCONT');
  }
  // the server has carried out both by now, and the lease that nobody waited for was let go
  await using after = await redisLeases(other.redis, { owner: 'me', wait: 2000 }).acquire('j', 0, never);
  expect(after.fence).toBe(2);
});

test('waiting ends with the signal', async () => {
  await using held = await leases().acquire('h', 0, never);
  const stop = new AbortController();
  const waiting = leases().acquire('h', 0, stop.signal);
  stop.abort(new Error('enough'));
  await expect(waiting).rejects.toThrow('enough');
  expect(held.signal.aborted).toBe(false);
});
