/** What stands in Redis, a daemon that hangs, a clock that jumps, a full disk: none of it may end or deafen a worker. */
import { once } from 'node:events';
import { createServer } from 'node:net';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { patient } from '../../src/backends/availability.ts';
import type { Backend } from '../../src/backends/backend.ts';
import { dockerBackend } from '../../src/backends/docker/index.ts';
import { enqueue } from '../../src/producer/enqueue.ts';
import { findHost } from '../../src/producer/hosts.ts';
import { showRun } from '../../src/producer/runs.ts';
import { whyWaiting } from '../../src/producer/why.ts';
import { redisTime } from '../../src/redis/time.ts';
import { Breaker } from '../../src/worker/breaker.ts';
import type { Claimed } from '../../src/worker/claimed.ts';
import { Claims } from '../../src/worker/claims.ts';
import { cancelOverdue } from '../../src/worker/deadlines.ts';
import { diskObstacle } from '../../src/worker/free-disk.ts';
import type { Ending } from '../../src/worker/handle.ts';
import { HostGuard } from '../../src/worker/host-guard.ts';
import { openJournal } from '../../src/worker/journal.ts';
import { announce } from '../../src/worker/presence.ts';
import { buildKey, buildRequest, outcome, presenceOf, startTestRedis, type TestRedis } from './fixtures.ts';

let server: TestRedis;
let claims: Claims;
let breaker: Breaker;
let guard: HostGuard;
let now: number;

beforeEach(async () => {
  server = await startTestRedis();
  claims = new Claims(server.redis, await openJournal(server.state));
  now = 0;
  breaker = new Breaker(undefined, () => now);
  guard = new HostGuard({ redis: server.redis, host: 'bay1', breaker, expected: async () => ran });
});
afterEach(async () => {
  vi.restoreAllMocks();
  await claims[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const ran = { image: 'img', backend: 'overlay', generation: 1 };
const testbed: Ending = { kind: 'testbed', message: 'no space', on: ran };

async function claim(): Promise<Claimed> {
  const claimed = await claims.claim(buildKey);
  if (claimed === undefined) throw new Error('nothing to claim');
  return claimed;
}

const completing =
  (claimed: Claimed): (() => Promise<Ending>) =>
  async () => {
    await claimed.complete(outcome());
    return { kind: 'completed', on: ran };
  };

describe('data that is none of ours', () => {
  const spoilt: [string, (runId: string) => Promise<unknown>][] = [
    ['a run that is no hash', (id) => server.redis.client.set(server.redis.keys.run(id), 'x')],
    ['a list of hosts that is none', (id) => server.redis.client.hset(server.redis.keys.run(id), 'avoid', '{"a":1}')],
    [
      'a presence that is no JSON',
      async (id) => {
        const { client, keys } = server.redis;
        await client.hset(keys.run(id), 'avoid', '["bay1"]');
        await client.zadd(keys.workers, '+inf', 'bay2/x', '+inf', 'bay3/y');
        await client.hset(keys.workerDetails, { 'bay2/x': '{', 'bay3/y': '[]' });
      },
    ],
  ];
  test.each(spoilt)('%s: the job runs, and its failure is settled', async (_, spoil) => {
    const ends = { well: completing, badly: () => async () => testbed };
    for (const [name, end] of Object.entries(ends)) {
      const { runId } = await enqueue(server.redis, buildRequest(name), 'amd64');
      const claimed = await claim();
      await spoil(runId);
      await expect(guard.run(claimed, end(claimed))).resolves.toBeUndefined();
      await server.redis.client.del(server.redis.keys.run(runId));
      await claimed.giveBack().catch(() => {});
    }
  });

  test('is no reason for why to give up', async () => {
    const { runId } = await enqueue(server.redis, buildRequest('pkg'), 'amd64');
    await server.redis.client.hset(server.redis.keys.run(runId), 'avoid', 'bay1');
    expect(await whyWaiting(server.redis, runId)).toEqual(['no worker is running']);
  });
});

describe('a probe', () => {
  test('is not used up by a job that is left to other hosts', async () => {
    for (let i = 0; i < 3; i += 1) breaker.began(ran).ended(testbed);
    expect(await guard.allowed([buildKey])).toEqual([]);
    now = 60_000;
    const { runId } = await enqueue(server.redis, buildRequest('pkg'), 'amd64');
    expect(await guard.allowed([buildKey])).toEqual([buildKey]);
    const claimed = await claim();
    await server.redis.client.hset(server.redis.keys.run(runId), 'avoid', '["bay1"]');
    await using _ = await announce(server.redis.client, server.redis.keys, () => presenceOf('bay2', 'b', ['img']));
    const run = vi.fn<() => Promise<Ending>>();
    await guard.run(claimed, run);
    expect(run).not.toHaveBeenCalled();
    expect((await showRun(server.redis, runId)).state).toBe('delayed');
    expect(await guard.allowed([buildKey])).toEqual([buildKey]);
  });

  test('is one job, though another is asked for before it has begun', async () => {
    for (let i = 0; i < 3; i += 1) breaker.began(ran).ended(testbed);
    now = 60_000;
    await enqueue(server.redis, buildRequest('pkg'), 'amd64');
    expect(await guard.allowed([buildKey])).toEqual([buildKey]);
    const claimed = await claim();
    const running = guard.run(claimed, completing(claimed));
    expect(await guard.allowed([buildKey])).toEqual([]);
    await running;
    expect(await guard.allowed([buildKey])).toEqual([buildKey]);
  });

  test('is not needed for a new generation, nor for an update, which may be what mends the image', async () => {
    const update = 'update-golden.any.amd64.m.img';
    for (let i = 0; i < 3; i += 1) breaker.began(ran).ended(testbed);
    expect(await guard.allowed([buildKey, update])).toEqual([update]);
    const newer = new HostGuard({
      ...{ redis: server.redis, host: 'bay1', breaker },
      expected: async () => ({ ...ran, generation: 2 }),
    });
    expect(await newer.allowed([buildKey, update])).toEqual([buildKey, update]);
  });
});

test('a disk that is full: nothing is taken, and host, why and readiness say so', async () => {
  const obstacle = () => diskObstacle({ state: server.state, minFreeDisk: 1e9 });
  const full = new HostGuard({ redis: server.redis, host: 'bay1', breaker, obstacle });
  expect(await full.allowed([buildKey])).toEqual([]);
  const said = /^no free disk: \d+ MB left in .*, 1000000000 MB are needed$/;
  expect(await full.notReady()).toMatch(said);
  const presence = { ...presenceOf('bay1', 'a', ['img']), troubles: await full.troubles() };
  await using _ = await announce(server.redis.client, server.redis.keys, () => presence);
  const { runId } = await enqueue(server.redis, buildRequest('pkg'), 'amd64');
  const [reason = ''] = await whyWaiting(server.redis, runId);
  expect(reason).toMatch(/^bay1 holds back: this host: no free disk: /);
  expect((await findHost(server.redis, 'bay1')).workers[0]?.troubles[0]).toMatch(/^this host: no free disk/);
});

describe('a heartbeat', () => {
  const until = async (): Promise<number> => Number(await server.redis.client.zscore(server.redis.keys.workers, 'h/i'));

  test('comes though nobody can say how the host is', async () => {
    let asked = 0;
    const hanging = async () => {
      asked += 1;
      return asked === 1 ? presenceOf('h', 'i', ['img']) : new Promise<never>(() => {});
    };
    const times = { beat: 20, alive: 60_000 };
    await using _ = await announce(server.redis.client, server.redis.keys, hanging, times);
    const first = await until();
    while ((await until()) <= first + 100);
    expect(asked).toBe(2); // one question at a time
  });

  test('a daemon that takes connections and says nothing is an answer, in time', async () => {
    const socket = path.join(server.state.root, 'hung.sock');
    const daemon = createServer(() => {}).listen(socket);
    await once(daemon, 'listening');
    const docker = patient(dockerBackend(server.state, { socket }), { limit: 50, fresh: 10 });
    const said = 'docker has not answered within 0.05 s';
    expect(await docker.unavailable()).toBe(said);
    expect(await docker.unavailable()).toBe(said);
    expect(await dockerBackend(server.state, { socket }).unavailable()).toMatch(/does not answer within 5 s/);
    daemon.close();
  });

  test('a backend is not asked again and again', async () => {
    const unavailable = vi.fn<() => Promise<string | undefined>>(async () => undefined);
    const backend = patient({ ...dockerBackend(server.state, { socket: '/x' }), unavailable } satisfies Backend);
    for (let i = 0; i < 5; i += 1) expect(await backend.unavailable()).toBeUndefined();
    expect(unavailable).toHaveBeenCalledTimes(1);
  });
});

test('a coordinator whose clock has jumped ahead cancels nothing', async () => {
  const deadline = (await redisTime(server.redis.client)) + 3_600_000;
  const { runId } = await enqueue(server.redis, buildRequest('pkg'), 'amd64', { deadline });
  vi.spyOn(Date, 'now').mockReturnValue(deadline + 86_400_000);
  expect(await cancelOverdue(server.redis)).toEqual([]);
  await server.redis.client.zadd(server.redis.keys.deadlines, 1, runId);
  expect(await cancelOverdue(server.redis)).toEqual([runId]);
});
