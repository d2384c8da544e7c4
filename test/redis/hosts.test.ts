/** Several hosts on one server: one that fails everything, one that is drained, and what a waiting job is told. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { describeLedger } from '../../src/cli/describe-host.ts';
import { enqueue, enqueueAll } from '../../src/producer/enqueue.ts';
import { drainHost, findHost, listHosts, resumeHost } from '../../src/producer/hosts.ts';
import { showRun, waitFor } from '../../src/producer/runs.ts';
import { whyWaiting } from '../../src/producer/why.ts';
import { TestbedError } from '../../src/protocol/errors.ts';
import { failureError, failureOf } from '../../src/protocol/failure.ts';
import { presenceSchema } from '../../src/protocol/presence.ts';
import { connectRedis } from '../../src/redis/connect.ts';
import { subscribeNudges } from '../../src/redis/nudges.ts';
import { Breaker } from '../../src/worker/breaker.ts';
import type { Claimed } from '../../src/worker/claimed.ts';
import { Claims } from '../../src/worker/claims.ts';
import { coordinate } from '../../src/worker/coordinator.ts';
import type { Ending } from '../../src/worker/handle.ts';
import type { RanOn } from '../../src/worker/host.ts';
import { HostGuard } from '../../src/worker/host-guard.ts';
import { openJournal } from '../../src/worker/journal.ts';
import { runLoop } from '../../src/worker/loop.ts';
import { announce } from '../../src/worker/presence.ts';
import { buildKey, buildRequest, ledgerOf, outcome, startTestRedis, type TestRedis } from './fixtures.ts';

const never = new AbortController().signal;
let server: TestRedis;
let joined: AsyncDisposable[];

beforeEach(async () => {
  server = await startTestRedis();
  joined = [];
});
afterEach(async () => {
  await Promise.all(joined.map((host) => host[Symbol.asyncDispose]()));
  await server[Symbol.asyncDispose]();
});

type Run = (claimed: Claimed) => Promise<Ending>;

/** A host with the real claims, guard, loop and coordinator; what a job does there is the test's. */
async function join(name: string, run: Run, { slots = 1 } = {}): Promise<{ readonly touched: Set<string> }> {
  const redis = await connectRedis({ kind: 'embedded', socketPath: server.socketPath }, 'test');
  const nudges = await subscribeNudges(redis);
  const journal = await openJournal(server.state);
  const { incarnation } = journal;
  const claims = new Claims(redis, journal);
  const breaker = new Breaker();
  const guard = new HostGuard({ redis, host: name, breaker, expected: async () => ran });
  const ledger = ledgerOf(slots);
  const describeIt = () =>
    presenceSchema.parse({
      ...{ host: name, incarnation, pid: 1, started: '0', bootId: 'x', images: ['img'], since: 0, arch: 'amd64' },
      ...describeLedger(ledger),
      ...{ troubles: breaker.troubles(), backends: { overlay: null } },
    });
  const presence = await announce(redis.client, redis.keys, describeIt);
  const times = { every: 10, ttl: 10_000, deadAfter: 1e9, regroup: 0, unlockedAfter: 1e9, forgetEvery: 1e9 };
  const coordinator = coordinate({ redis, incarnation, claims, log: () => {}, times });
  const touched = new Set<string>();
  const stop = new AbortController();
  const running = runLoop(
    {
      ledger,
      claims,
      offers: () => guard.allowed([buildKey]),
      run: (claimed) =>
        guard.run(claimed, async () => {
          touched.add(claimed.runId);
          await presence.update();
          const ending = await run(claimed);
          await presence.update();
          return ending;
        }),
      onNudge: (wake) => nudges.listen(wake),
      sweep: 60_000,
      log: () => {},
    },
    stop.signal,
  );
  joined.push({
    async [Symbol.asyncDispose]() {
      stop.abort();
      await running;
      for (const part of [coordinator, presence, claims, journal, nudges, redis]) await part[Symbol.asyncDispose]();
    },
  });
  return { touched };
}

const ran: RanOn = { image: 'img', backend: 'overlay', generation: 1 };
const succeed: Run = async (claimed) => {
  await claimed.complete(outcome());
  return { kind: 'completed', on: ran };
};
/** Node 20 has no Promise.withResolvers. */
function resolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => {};
  const promise = new Promise<void>((done) => (resolve = done));
  return { promise, resolve };
}

/** As `handle` settles it; on a host of the claim's own name. */
const breakDown =
  (host: string): Run =>
  async (claimed) => {
    const error = new TestbedError('open', 'overlay', 'no space');
    const { left } = await claimed.spend('testbed', host);
    await claimed.fail(failureError(failureOf(error), error), { retry: left });
    return { kind: 'testbed', message: 'no space', on: ran };
  };

describe('a host that fails everything', () => {
  test('touches at most ten jobs of a thousand, and all of them end well elsewhere', async () => {
    const requests = Array.from({ length: 1000 }, (_, index) => buildRequest(`p${index}`));
    const hole = await join('hole', breakDown('hole'), { slots: 4 });
    const good = await join('good', succeed, { slots: 4 });
    const runs = await enqueueAll(server.redis, requests, 'amd64');
    for (const { runId } of runs) expect((await waitFor(server.redis, runId, never)).state).toBe('completed');
    expect(hole.touched.size).toBeGreaterThan(0);
    expect(hole.touched.size).toBeLessThanOrEqual(10);
    expect(good.touched.size).toBe(1000);
    const { workers } = await findHost(server.redis, 'hole');
    expect(workers[0]?.troubles[0]).toMatch(/^(img@1 on overlay|this host): failed \d+ times in a row: no space$/);
  });

  test('touches no more on 32 slots: it may not begin many before one has gone well', async () => {
    const requests = Array.from({ length: 1000 }, (_, index) => buildRequest(`p${index}`));
    await enqueueAll(server.redis, requests, 'amd64');
    const inASecond: Run = async (claimed) => {
      await delay(1000); // what such a job takes
      return breakDown('hole')(claimed);
    };
    const hole = await join('hole', inASecond, { slots: 32 });
    for (let held = false; !held;) {
      const [worker] = (await findHost(server.redis, 'hole')).workers;
      held = worker !== undefined && worker.busy === 0 && worker.troubles.length > 0;
    }
    expect(hole.touched.size).toBeLessThanOrEqual(10);
  });

  test('is told from one that is well by the first success: then all slots are used', async () => {
    const requests = Array.from({ length: 40 }, (_, index) => buildRequest(`p${index}`));
    let together = 0;
    let most = 0;
    const full = resolvers();
    await join(
      'good',
      async (claimed) => {
        together += 1;
        most = Math.max(most, together);
        if (together === 32) full.resolve();
        if (claimed.runId !== first?.runId) await full.promise;
        together -= 1;
        return succeed(claimed);
      },
      { slots: 32 },
    );
    const [first] = await enqueueAll(server.redis, requests, 'amd64');
    await full.promise;
    expect(most).toBe(32);
  });

  test('alone it tries each job as often as the budget allows, and no job is lost', async () => {
    await join('only', breakDown('only'));
    const { runId } = await enqueue(server.redis, buildRequest('p'), 'amd64');
    expect(await waitFor(server.redis, runId, never)).toMatchObject({
      state: 'failed',
      failure: { class: 'infrastructure', message: 'overlay: open: no space' },
    });
  });
});

describe('a drained host', () => {
  test('takes nothing until it is resumed; a waiting job says why', async () => {
    await join('bay1', succeed);
    await drainHost(server.redis, 'bay1', 'new disks');
    const { runId } = await enqueue(server.redis, buildRequest('p'), 'amd64');
    expect(await listHosts(server.redis)).toMatchObject([{ host: 'bay1', drained: { reason: 'new disks' } }]);
    expect(await whyWaiting(server.redis, runId)).toEqual(['bay1 is drained: new disks']);
    expect((await showRun(server.redis, runId)).state).toBe('waiting');
    expect(await resumeHost(server.redis, 'bay1')).toBe(true);
    expect((await waitFor(server.redis, runId, never)).state).toBe('completed');
    expect(await resumeHost(server.redis, 'bay1')).toBe(false);
    expect(await whyWaiting(server.redis, runId)).toEqual([]);
  });
});

describe('why a job waits', () => {
  test('no worker; none with the image; none of the backend; no free slot, and how many are before it', async () => {
    const { redis } = server;
    const [first, second] = await enqueueAll(redis, [buildRequest('p'), buildRequest('q')], 'amd64');
    expect(await whyWaiting(redis, first?.runId ?? '')).toEqual(['no worker is running']);
    let release = (): void => {};
    const released = new Promise<void>((resolve) => (release = resolve));
    const begun = new Promise<void>((resolve) => {
      void join('bay1', async (claimed) => {
        resolve();
        await released;
        return succeed(claimed);
      });
    });
    await begun;
    expect(await whyWaiting(redis, second?.runId ?? '')).toEqual(['bay1 has no free slot (1 of 1 busy)']);
    const other = await enqueue(redis, { ...buildRequest('p'), image: 'sid' }, 'amd64');
    expect(await whyWaiting(redis, other.runId)).toEqual(['no host that runs has the image sid']);
    const docker = await enqueue(redis, { ...buildRequest('p'), backend: 'docker' }, 'amd64');
    expect(await whyWaiting(redis, docker.runId)).toEqual(['bay1 cannot run docker: it does not know it']);
    const arm = await enqueue(redis, buildRequest('r'), 'arm64');
    expect(await whyWaiting(redis, arm.runId)).toEqual(['no host that has the image img is arm64']);
    const small = await enqueue(redis, { ...buildRequest('p'), size: 's' }, 'amd64');
    expect(await whyWaiting(redis, small.runId)).toEqual([
      'bay1 has no room for size s now (free: 0 cpus, 0 MB of memory, 0 MB of disk; it takes 1 cpu, 2048 MB of memory, 8192 MB of disk)',
    ]);
    const large = await enqueue(redis, { ...buildRequest('p'), size: 'xl' }, 'amd64');
    expect(await whyWaiting(redis, large.runId)).toEqual([
      'no host is large enough for size xl; bay1 has 2 cpus, 4096 MB of memory, 16384 MB of disk',
    ]);
    release();
    await waitFor(redis, second?.runId ?? '', never);
  });

  test('a host keeps its room for a large one; a worker of an earlier version takes m only', async () => {
    const { redis } = server;
    const ledger = ledgerOf(4);
    const about = { incarnation: 'x', pid: 1, started: '0', bootId: 'x', images: ['img'], since: 0, arch: 'amd64' };
    const describeIt = () => presenceSchema.parse({ ...about, ...describeLedger(ledger), host: 'bay1' });
    const bay1 = await announce(redis.client, redis.keys, describeIt);
    const { runId } = await enqueue(redis, { ...buildRequest('p'), size: 's' }, 'amd64');
    expect(await whyWaiting(redis, runId)).toEqual(['bay1 will take it at once']);
    using _ = ledger.reserve('m');
    using __ = ledger.keepRoom('xl');
    await bay1.update();
    expect(await whyWaiting(redis, runId)).toEqual([
      'bay1 keeps its room for a job of size xl that has found none for too long',
    ]);
    await bay1[Symbol.asyncDispose]();
    const old = presenceSchema.parse({ ...about, host: 'bay2', slots: 2, busy: 1 });
    await using bay2 = await announce(redis.client, redis.keys, () => old);
    expect(await whyWaiting(redis, runId)).toEqual(['no host is large enough for size s']);
    await bay2.update();
    const usual = await enqueue(redis, buildRequest('q'), 'amd64');
    expect(await whyWaiting(redis, usual.runId)).toEqual(['bay2 will take it at once']);
  });
});
