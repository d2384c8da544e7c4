/** What the coordinator does for the fleet: finds work that nobody told of, and the jobs of workers that are gone. */
import { Queue } from 'bullmq';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { enqueue, enqueueAll } from '../../src/producer/enqueue.ts';
import { showRun } from '../../src/producer/runs.ts';
import { remembered } from '../../src/protocol/routing.ts';
import { redisTime } from '../../src/redis/time.ts';
import { knownKeys, readyKeys } from '../../src/redis/ready.ts';
import { Claims } from '../../src/worker/claims.ts';
import { coordinate } from '../../src/worker/coordinator.ts';
import { fleetTimes } from '../../src/worker/fleet-times.ts';
import { forgetOld } from '../../src/worker/forget.ts';
import { openJournal, type Journal } from '../../src/worker/journal.ts';
import { LostClaims } from '../../src/worker/lost-claims.ts';
import { announce } from '../../src/worker/presence.ts';
import { buildKey, buildRequest, outcome, presenceOf } from './fixtures.ts';
import { listenFor } from './listen-for.ts';
import { begin, claim, claims, cleanUp, journal, server } from './world.ts';

const day = 86_400_000;
const times = { every: 5, ttl: 10_000, deadAfter: 20, regroup: 0, unlockedAfter: 20, forgetEvery: 1e9 };

beforeEach(begin);
afterEach(async () => {
  vi.useRealTimers();
  await cleanUp();
});

const add = async (name: string): Promise<string> => (await enqueue(server.redis, buildRequest(name), 'amd64')).runId;

function present({ incarnation }: Journal): Promise<AsyncDisposable> {
  const about = presenceOf('here', incarnation, []);
  return announce(server.redis.client, server.redis.keys, () => about);
}

const coordinating = (by: Journal = journal): AsyncDisposable =>
  coordinate({ redis: server.redis, incarnation: by.incarnation, claims, log: () => {}, times });

const workTold = (): Promise<{ readonly heard: Promise<void> }> =>
  listenFor(server.redis, (nudge) => 'enqueued' in nudge && nudge.enqueued === buildKey);

const byDefault = fleetTimes();

/**
 * Only the time is not real: it passes between two looks, and what is left of the last heartbeat is what would be.
 * @param first when the coordinator looks for the first time @returns at which look the job is back; ms from the death
 */
async function givenBackAfter(first: number): Promise<number> {
  const { client, keys } = server.redis;
  const runId = await add(`killed${first}`);
  await claim();
  const lost = new LostClaims(server.redis, claims, byDefault, () => {});
  vi.useFakeTimers({ toFake: ['performance'] });
  for (let now = first; ; now += byDefault.every) {
    await client.zadd(keys.workers, (await redisTime(client)) + byDefault.alive - now, `here/${journal.incarnation}`);
    await lost.giveBack([buildKey]);
    if ((await showRun(server.redis, runId)).state === 'waiting') return now;
    vi.advanceTimersByTime(byDefault.every);
  }
}

describe('a worker that is gone', () => {
  test('its job goes back when its heartbeat is missing; the jobs of those that live stay', async () => {
    const dying = await openJournal(server.state);
    await using dyingClaims = new Claims(server.redis, dying);
    await using _ = await present(journal);
    const heartbeat = await present(dying);
    const lost = await add('lost');
    const gone = await claim(dyingClaims);
    const kept = await add('kept');
    const mine = await claim();
    await using coordinator = coordinating();
    const told = await workTold();
    await heartbeat[Symbol.asyncDispose]();
    await told.heard;
    const next = await claim();
    expect(next.runId).toBe(lost);
    expect((await showRun(server.redis, kept)).state).toBe('active');
    await expect(gone.complete(outcome('late'))).rejects.toThrow(/the claim was lost/);
    await next.complete(outcome('in time'));
    await mine.complete(outcome());
    expect(await showRun(server.redis, lost)).toMatchObject({ outcome: { result: { status: 'in time' } } });
    await coordinator[Symbol.asyncDispose]();
  });

  test.each([
    ['at whichever moment between two looks', [0, 100, 2500, 4900]],
    ['also if the coordinator died with it', [byDefault.ttl + byDefault.every]],
  ])('its job goes back within 50 s of its death, %s', async (_, firstLooks) => {
    for (const first of firstLooks) {
      const from = first < byDefault.every ? first - 10 * byDefault.every : first; // it looked before, or did not
      expect(await givenBackAfter(from)).toBeLessThanOrEqual(50_000);
      await (await claim()).complete(outcome());
    }
  });

  test('what another program has left in the place of a queue keeps nobody from that', async () => {
    await using _ = await present(journal);
    const { client, keys } = server.redis;
    const runId = await add('behind');
    await claim();
    const told = await workTold();
    await client.del(`${keys.queues}:${buildKey}:${runId}:lock`);
    await client.zadd(keys.known, 1, 'build.any.amd64.m.other');
    for (const list of ['wait', 'prioritized', 'paused', 'delayed'])
      await client.set(`${keys.queues}:build.any.amd64.m.other:${list}`, 'no queue');
    await using coordinator = coordinating();
    await told.heard;
    expect((await claim()).runId).toBe(runId);
    await coordinator[Symbol.asyncDispose]();
  });

  test('a lock that nobody has goes back, too', async () => {
    await using _ = await present(journal);
    const runId = await add('unlocked');
    await claim();
    const told = await workTold();
    await server.redis.client.del(`${server.redis.keys.queues}:${buildKey}:${runId}:lock`);
    await using coordinator = coordinating();
    await told.heard;
    const next = await claim();
    expect(next).toMatchObject({ runId, attempt: 2 });
    await next.complete(outcome());
    await coordinator[Symbol.asyncDispose]();
  });

  test('nobody counts as gone by what was not seen: after a break of the connection the look begins anew', async () => {
    const patience = { every: 1e9, deadAfter: 1, regroup: 0, unlockedAfter: 1 };
    const lost = new LostClaims(server.redis, claims, patience, () => {});
    const runId = await add('patient');
    await claim(); // and no heartbeat at all
    const state = async (): Promise<string> => (await showRun(server.redis, runId)).state;
    for (let round = 0; round < 3; round += 1) {
      await lost.giveBack([buildKey]);
      const later = performance.now() + 2;
      while (performance.now() < later) await new Promise(setImmediate);
      const id = await server.redis.client.client('ID');
      const other = server.redis.duplicate();
      await other.client('KILL', 'ID', id);
      other.disconnect();
    }
    expect(await state()).toBe('active');
    await lost.giveBack([buildKey]);
    const later = performance.now() + 2;
    while (performance.now() < later) await new Promise(setImmediate);
    await lost.giveBack([buildKey]);
    expect(await state()).toBe('waiting');
  });
});

test('work that its producer did not come to tell of is found', async () => {
  await using queue = disposable(
    new Queue(buildKey, { connection: server.redis.client, prefix: server.redis.keys.queues }),
  );
  await server.redis.client.zadd(server.redis.keys.known, '0', buildKey);
  await queue.it.add('build', buildRequest('untold'), { jobId: 'untold', priority: 1 });
  expect(await claims.ready()).toEqual([]);
  const told = await workTold();
  await using coordinator = coordinating();
  await told.heard;
  expect(await claims.ready()).toEqual([buildKey]);
  await (await claim()).complete(outcome());
  expect(await claims.claim(buildKey)).toBeUndefined();
  expect(await readyKeys(server.redis)).toEqual([]);
  await coordinator[Symbol.asyncDispose]();
});

test('one at a time; the next takes over when it ends', async () => {
  const other = await openJournal(server.state);
  const holder = (): Promise<string | null> => server.redis.client.get(server.redis.keys.coordinator);
  const first = coordinating();
  while ((await holder()) !== journal.incarnation);
  const second = coordinating(other);
  for (let i = 0; i < 20; i += 1) expect(await holder()).toBe(journal.incarnation);
  await first[Symbol.asyncDispose]();
  while ((await holder()) !== other.incarnation);
  await second[Symbol.asyncDispose]();
  expect(await holder()).toBeNull();
});

describe('what is too old', () => {
  test('a run whose job is gone is forgotten, and its request begins again at one', async () => {
    const { keys, client } = server.redis;
    const old = await add('old');
    const waiting = await add('waiting');
    await (await claim()).complete(outcome());
    await client.del(`${keys.queues}:${buildKey}:${old}`); // as BullMQ does in its time
    await forgetOld(server.redis);
    expect(await client.exists(keys.run(old))).toBe(1);
    await forgetOld(server.redis, Date.now() + remembered + day);
    expect(await client.zrangebyscore(keys.runs, '-inf', '+inf')).toEqual([waiting]);
    expect(await client.exists(keys.run(old), keys.latestRun(old))).toBe(0);
    expect(await client.exists(keys.run(waiting), keys.latestRun(waiting))).toBe(2);
  });

  test('however much there is, and however many older ones stay: also when two workers forget at a time', async () => {
    const { keys, client } = server.redis;
    const later = Date.now() + remembered + day;
    const requests = Array.from({ length: 1500 }, (_, index) => buildRequest(`toy${index}`));
    const ids = (await enqueueAll(server.redis, requests, 'amd64')).map(({ runId }) => runId);
    const [waiting, gone] = [ids.slice(0, 700), ids.slice(700)];
    await client.zadd(keys.runs, ...waiting.flatMap((id) => [1, id])); // the oldest of all
    await client.del(...gone.map((id) => `${keys.queues}:${buildKey}:${id}`));
    await forgetOld(server.redis, later);
    expect(new Set(await client.zrange(keys.runs, '0', '-1'))).toEqual(new Set(waiting));
    expect(await client.exists(...gone.map(keys.run))).toBe(0);

    await client.del(...waiting.slice(100).map((id) => `${keys.queues}:${buildKey}:${id}`));
    await Promise.all([forgetOld(server.redis, later), forgetOld(server.redis, later)]);
    await forgetOld(server.redis, later); // what one has stepped over because of the other
    expect(new Set(await client.zrange(keys.runs, '0', '-1'))).toEqual(new Set(waiting.slice(0, 100)));
    expect(await client.exists(...waiting.map(keys.run))).toBe(100);
  });

  test('queues, however many, and however many older ones stay', async () => {
    const { keys, client } = server.redis;
    const names = Array.from({ length: 1500 }, (_, index) => `build.any.amd64.m.image${index}`);
    await client.zadd(keys.known, ...names.flatMap((name, index) => [index + 1, name]));
    const used = client.pipeline();
    for (const name of names.slice(0, 700)) used.rpush(`${keys.queues}:${name}:wait`, 'job');
    await used.exec();
    await forgetOld(server.redis);
    expect(await knownKeys(server.redis)).toEqual(names.slice(0, 700));
  });

  test('and the fleet is looked after meanwhile', async () => {
    const { keys, client } = server.redis;
    const ask = client.zrangebyscore.bind(client) as (...args: unknown[]) => Promise<string[]>;
    let go = (): void => {};
    const held = new Promise<void>((resolve) => (go = resolve));
    const slow = vi.spyOn(client, 'zrangebyscore').mockImplementation(async (...args: unknown[]) => {
      if (args[0] === keys.runs) await held;
      return ask(...args);
    });
    const always = { ...times, forgetEvery: 0 };
    const coordinator = coordinate({ redis: server.redis, incarnation: '1', claims, log: () => {}, times: always });
    while (!slow.mock.calls.some(([key]) => key === keys.runs)) await new Promise(setImmediate);
    await client.zadd(keys.known, '0', buildKey);
    const told = await workTold();
    await client.lpush(`${keys.queues}:${buildKey}:wait`, 'untold');
    await told.heard;
    go();
    await coordinator[Symbol.asyncDispose]();
    slow.mockRestore();
  });

  test('a queue is forgotten when it is empty and nobody has used it for a day', async () => {
    await add('last');
    const later = Date.now() + 2 * day;
    await forgetOld(server.redis, later);
    expect(await knownKeys(server.redis)).toEqual([buildKey]);
    await (await claim()).complete(outcome());
    await forgetOld(server.redis);
    expect(await knownKeys(server.redis)).toEqual([buildKey]);
    await forgetOld(server.redis, later);
    expect(await knownKeys(server.redis)).toEqual([]);
  });
});

function disposable(it: Queue): AsyncDisposable & { readonly it: Queue } {
  return { it, [Symbol.asyncDispose]: () => it.close() };
}
