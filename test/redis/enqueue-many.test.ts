/** Many jobs at once: handed in whole or completed by handing in again; and tenants take turns. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { enqueue, enqueueAll } from '../../src/producer/enqueue.ts';
import { showRun } from '../../src/producer/runs.ts';
import type { Gate } from '../../src/worker/handle.ts';
import type { Host } from '../../src/worker/host.ts';
import { Breaker } from '../../src/worker/breaker.ts';
import { HostGuard } from '../../src/worker/host-guard.ts';
import { Keeper } from '../../src/worker/keeper.ts';
import { runClaimed } from '../../src/worker/run-claimed.ts';
import { buildKey, buildRequest, outcome } from './fixtures.ts';
import { begin, claim, claims, cleanUp, journal, server } from './world.ts';

beforeEach(begin);
afterEach(cleanUp);

const requests = (prefix: string, count: number): ReturnType<typeof buildRequest>[] =>
  Array.from({ length: count }, (_, index) => buildRequest(`${prefix}${index}`));

async function names(count: number): Promise<string[]> {
  const found: string[] = [];
  for (let i = 0; i < count; i += 1) {
    const claimed = await claim();
    found.push((claimed.data as ReturnType<typeof buildRequest>).source.package);
    claimed.takeTurn();
    await claimed.complete(outcome());
  }
  return found;
}

describe('many at once', () => {
  test('each is a run of its own, in their order; the same in one batch is one run', async () => {
    const batch = requests('p', 1203); // more than go to Redis together
    const done = await enqueueAll(server.redis, [...batch, ...batch.slice(0, 2)], 'amd64');
    expect(done.slice(0, 1203).every(({ state }) => state === 'new')).toBe(true);
    expect(done.slice(1203)).toEqual(done.slice(0, 2).map(({ runId }) => ({ runId, state: 'already' })));
    expect(new Set(done.map(({ runId }) => runId)).size).toBe(1203);
    expect(await names(3)).toEqual(['p0', 'p1', 'p2']);
  });

  test('handed in again: what waits is already there, what has ended runs anew or is taken as recorded', async () => {
    const batch = requests('p', 3);
    const first = await enqueueAll(server.redis, batch, 'amd64');
    await names(1);
    const reused = await enqueueAll(server.redis, batch, 'amd64', { reuse: true });
    expect(reused.map(({ state }) => state)).toEqual(['recorded', 'already', 'already']);
    const again = await enqueueAll(server.redis, batch, 'amd64');
    expect(again.map(({ state }) => state)).toEqual(['new', 'already', 'already']);
    expect(again[0]?.runId).toBe(`${first[0]?.runId}-2`);
  });

  test('cut off between admitting and queueing: handing in again completes it', async () => {
    const batch = requests('p', 2);
    const [one] = await enqueueAll(server.redis, batch.slice(0, 1), 'amd64');
    const { keys, client } = server.redis;
    await client.set(keys.latestRun((await enqueue(server.redis, buildRequest('x'), 'amd64')).runId), '1');
    const other = (await enqueueAll(server.redis, batch.slice(1), 'amd64'))[0]?.runId ?? '';
    const queue = `${keys.queues}:${buildKey}`; // as if it had never come there
    await client.multi().del(`${queue}:${other}`).zrem(`${queue}:prioritized`, other).exec();
    expect((await showRun(server.redis, other)).state).toBe('absent');
    const again = await enqueueAll(server.redis, batch, 'amd64');
    expect(again).toEqual([
      { runId: one?.runId, state: 'already' },
      { runId: other, state: 'new' },
    ]);
  });
});

describe('tenants take turns', () => {
  test('ten jobs behind ten thousand start within the next twenty', async () => {
    await enqueueAll(server.redis, requests('rebuild', 10_000), 'amd64', { tenant: 'archive' });
    await names(5);
    await enqueueAll(server.redis, requests('ci', 10), 'amd64', { tenant: 'ci' });
    const next = await names(25);
    expect(next.filter((name) => name.startsWith('ci'))).toHaveLength(10);
    expect(next.filter((name) => name.startsWith('rebuild'))).toHaveLength(15);
  });

  test('nobody saves up: who was silent for long does not overtake all others then', async () => {
    await enqueueAll(server.redis, requests('a', 100), 'amd64', { tenant: 'a' });
    await names(50);
    await enqueueAll(server.redis, requests('b', 100), 'amd64', { tenant: 'b' });
    const next = await names(40);
    expect(next.filter((name) => name.startsWith('a')).length).toBeGreaterThanOrEqual(18);
    expect(next.filter((name) => name.startsWith('b')).length).toBeGreaterThanOrEqual(18);
  });

  test('jobs that were put off before they began do not go before all that come then', async () => {
    const ids = await enqueueAll(server.redis, requests('a', 100), 'amd64', { tenant: 'a' });
    await using keeper = await Keeper.open(journal.folder);
    const path = {
      ...{ redis: server.redis, claims, metrics: undefined, log: () => {} },
      host: { name: 'bay1', state: server.state } as Host, // no session: nothing else of it is asked
      guard: new HostGuard({ redis: server.redis, host: 'bay1', breaker: new Breaker() }),
      run: async () => outcome(),
    };
    const renewal = { signal: new AbortController().signal, [Symbol.dispose]() {} };
    const through = async (admit: Gate): Promise<void> => {
      using job = keeper.begin(await claim(), renewal);
      await runClaimed({ ...path, fresh: { admit } }, job);
    };
    await through(async () => true);
    const putOff: Gate = async (claimed) => claimed.leave(1e6).then(() => false);
    for (let i = 1; i < 100; i += 1) await through(putOff);
    expect(await server.redis.client.hget(server.redis.keys.fair(buildKey), 'now')).toBe('1');
    for (const { runId } of ids) await claims.promote(buildKey, runId);
    await enqueueAll(server.redis, requests('b', 10), 'amd64', { tenant: 'b' });
    expect((await names(25)).filter((name) => name.startsWith('b'))).toHaveLength(10);
  });

  test('what comes back of a long list does not stand behind all that has come since', async () => {
    await enqueueAll(server.redis, requests('a', 100), 'amd64', { tenant: 'a' });
    await names(98);
    const failed = await claim();
    const running = await claim();
    await failed.fail(new Error('its testbed broke'), { retry: true });
    await enqueueAll(server.redis, requests('b', 100), 'amd64', { tenant: 'b' });
    await running.giveBack();
    await claims.promote(buildKey, failed.runId);
    expect((await names(4)).filter((name) => name.startsWith('a')).toSorted()).toEqual(['a98', 'a99']);
  });

  test('a job that is put off for ever does not let the numbers run out, nor is it the last then', async () => {
    const { keys, client } = server.redis;
    await enqueue(server.redis, buildRequest('paused'), 'amd64', { tenant: 'a' });
    const paused = await claim();
    await client.hset(`${keys.queues}:${buildKey}:${paused.runId}`, 'priority', 1_200_000);
    await client.hset(keys.fair(buildKey), { now: 1_300_000, 'of:a': 1_300_000 }); // after as many jobs
    await paused.leave(1e6);
    await enqueueAll(server.redis, requests('b', 10), 'amd64', { tenant: 'b' });
    expect(await client.hget(keys.fair(buildKey), 'of:b')).toBe('10');
    await claims.promote(buildKey, paused.runId);
    expect(await names(2)).toContain('paused');
  });

  test('an empty queue begins anew: its numbers do not run out', async () => {
    await enqueueAll(server.redis, requests('a', 10), 'amd64', { tenant: 'a' });
    await names(10);
    await enqueue(server.redis, buildRequest('later'), 'amd64', { tenant: 'b' });
    const { keys, client } = server.redis;
    expect(await client.hget(keys.fair(buildKey), 'of:b')).toBe('1');
    await names(1);
  });
});
