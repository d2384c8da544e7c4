/** Enqueue, claim, settle, cancel and recover, on a real server. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Queue } from 'bullmq';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LeaseLost, TestbedError, UsageError } from '../../src/protocol/errors.ts';
import { failureError, failureOf } from '../../src/protocol/failure.ts';
import { enqueue } from '../../src/producer/enqueue.ts';
import { cancelRun, findRun, listRuns, showRun, waitFor } from '../../src/producer/runs.ts';
import { subscribeNudges } from '../../src/redis/nudges.ts';
import type { Claimed } from '../../src/worker/claimed.ts';
import { Claims } from '../../src/worker/claims.ts';
import { openJournal } from '../../src/worker/journal.ts';
import { recover } from '../../src/worker/recover.ts';
import { keepRenewed } from '../../src/worker/renewal.ts';
import { buildKey, buildRequest, outcome, renewalsOf, startTestRedis, type TestRedis } from './fixtures.ts';

let server: TestRedis;
let claims: Claims;
let counter = 0;
const never = new AbortController().signal;

beforeAll(async () => {
  server = await startTestRedis();
  claims = new Claims(server.redis, await openJournal(server.state));
});
afterAll(async () => {
  await claims[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

/** A request that no other test has. */
const fresh = (): ReturnType<typeof buildRequest> => buildRequest(`toy${(counter += 1)}`);

async function claim(): Promise<Claimed> {
  const claimed = await claims.claim(buildKey);
  if (claimed === undefined) throw new Error('nothing to claim');
  return claimed;
}

describe('enqueue', () => {
  test('the same request is the same run while it waits or runs, and a new one after its end', async () => {
    const request = fresh();
    const first = await enqueue(server.redis, request, 'amd64');
    expect(first.state).toBe('new');
    expect(await enqueue(server.redis, request, 'amd64')).toEqual({ runId: first.runId, state: 'already' });
    const claimed = await claim();
    expect(claimed.runId).toBe(first.runId);
    expect(await enqueue(server.redis, request, 'amd64')).toEqual({ runId: first.runId, state: 'already' });
    await claimed.complete(outcome());
    expect(await enqueue(server.redis, request, 'amd64', { reuse: true })).toEqual({
      runId: first.runId,
      state: 'recorded',
    });
    const second = await enqueue(server.redis, request, 'amd64');
    expect(second).toEqual({ runId: `${first.runId}-2`, state: 'new' });
    await (await claim()).complete(outcome());
  });

  test('twenty producers at once make one run', async () => {
    const request = fresh();
    const all = await Promise.all(Array.from({ length: 20 }, () => enqueue(server.redis, request, 'amd64')));
    expect(new Set(all.map(({ runId }) => runId)).size).toBe(1);
    expect(all.filter(({ state }) => state === 'new')).toHaveLength(1);
    await (await claim()).complete(outcome());
    expect(await claims.claim(buildKey)).toBeUndefined();
  });

  test('a run whose producer died before it reached the queue is added by the next', async () => {
    const request = fresh();
    const { runId } = await enqueue(server.redis, request, 'amd64');
    const queue = new Queue(buildKey, { connection: server.redis.client, prefix: server.redis.keys.queues });
    await queue.remove(runId);
    await queue.close();
    expect(await enqueue(server.redis, request, 'amd64')).toEqual({ runId, state: 'new' });
    await (await claim()).complete(outcome());
  });
});

describe('claims', () => {
  test('one job goes to one claimer', async () => {
    await using other = new Claims(server.redis, await openJournal(server.state));
    await enqueue(server.redis, fresh(), 'amd64');
    const got = await Promise.all([claims.claim(buildKey), other.claim(buildKey)]);
    const [only, ...rest] = got.filter((claimed) => claimed !== undefined);
    expect(rest).toEqual([]);
    await only?.complete(outcome());
  });

  test('20 queues share the connection', async () => {
    const before = await connections();
    for (let i = 0; i < 20; i += 1) await claims.claim(`build.any.amd64.m.none${i}`);
    expect(await connections()).toBe(before);
  });

  test('what another program wrote can be claimed and failed alone', async () => {
    const queue = new Queue(buildKey, { connection: server.redis.client, prefix: server.redis.keys.queues });
    await queue.add('x', { hello: 1 }, { jobId: 'evil' });
    await queue.close();
    const claimed = await claim();
    expect(claimed.data).toEqual({ hello: 1 });
    const error = new UsageError('v', 'malformed queue entry');
    await claimed.fail(failureError(failureOf(error), error), { retry: false });
    await server.redis.client.hset(server.redis.keys.run('evil'), { queue: buildKey });
    expect(await showRun(server.redis, 'evil')).toMatchObject({ state: 'failed', failure: { class: 'usage' } });
  });

  test('what is to be tried again is, however often BullMQ would', async () => {
    const { runId } = await enqueue(server.redis, fresh(), 'amd64');
    const error = new TestbedError('open', 'overlay', 'no space');
    for (let i = 0; i < 7; i += 1) {
      await (await claim()).fail(failureError(failureOf(error), error), { retry: true });
      expect((await showRun(server.redis, runId)).state).toBe('delayed');
      expect(claims.nextDue()).toBeGreaterThan(Date.now());
      await promote(runId);
    }
    await (await claim()).fail(failureError(failureOf(error), error), { retry: false });
    expect(await showRun(server.redis, runId)).toMatchObject({ state: 'failed', failure: { class: 'infrastructure' } });
  });

  test('a job given back is the next one, and its attempt does not count', async () => {
    const { runId } = await enqueue(server.redis, fresh(), 'amd64');
    for (let i = 0; i < 5; i += 1) await (await claim()).giveBack();
    const claimed = await claim();
    expect(claimed.runId).toBe(runId);
    await claimed.complete(outcome());
    expect(await showRun(server.redis, runId)).toMatchObject({ state: 'completed', outcome: outcome() });
  });

  test('whose lock is gone may not settle', async () => {
    await enqueue(server.redis, fresh(), 'amd64');
    const claimed = await claim();
    await server.redis.client.set(`${server.redis.keys.queues}:${buildKey}:${claimed.runId}:lock`, 'another');
    expect(await claimed.renew()).toBe(false);
    await expect(claimed.complete(outcome())).rejects.toBeInstanceOf(LeaseLost);
    await server.redis.client.del(`${server.redis.keys.queues}:${buildKey}:${claimed.runId}:lock`);
    const queue = new Queue(buildKey, { connection: server.redis.client, prefix: server.redis.keys.queues });
    await queue.remove(claimed.runId);
    await queue.close();
  });

  test('kill -9 of a worker: the next one on this host gives its job back at once', async () => {
    const { runId } = await enqueue(server.redis, fresh(), 'amd64');
    const script = fileURLToPath(new URL('claim-and-hold.ts', import.meta.url));
    const args = ['--import', 'tsx', script, server.state.root, server.socketPath, buildKey];
    const holder = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const [said] = (await once(holder.stdout, 'data')) as [Buffer];
    expect(said.toString().trim()).toBe(runId);
    await recover(server.state, claims, [], () => {});
    expect((await showRun(server.redis, runId)).state).toBe('active');
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    const lines: string[] = [];
    await recover(server.state, claims, [], (line) => lines.push(line));
    expect(lines).toEqual([`${runId}: given back, its worker had died`]);
    await (await claim()).complete(outcome());
  });
});

describe('runs', () => {
  test('waiting ends with the outcome; a cancelled one that waited is gone from the queue', async () => {
    const { runId } = await enqueue(server.redis, fresh(), 'amd64');
    const waiting = waitFor(server.redis, runId, never);
    await (await claim()).complete(outcome('attempted'));
    expect(await waiting).toMatchObject({ state: 'completed', outcome: { result: { status: 'attempted' } } });

    const second = await enqueue(server.redis, fresh(), 'amd64');
    const waiter = waitFor(server.redis, second.runId, never);
    await cancelRun(server.redis, second.runId, 'enough');
    expect(await waiter).toMatchObject({ state: 'cancelled', failure: { class: 'interrupted', message: 'enough' } });
    expect(await claims.claim(buildKey)).toBeUndefined();
    await expect(cancelRun(server.redis, second.runId, 'again')).rejects.toBeInstanceOf(UsageError);
  });

  test('at no moment is a run completed without its outcome', async () => {
    for (let round = 0; round < 30; round++) {
      const { runId } = await enqueue(server.redis, fresh(), 'amd64');
      const completing = claim().then((claimed) => claimed.complete(outcome()));
      for (let state = ''; state !== 'completed';) {
        const run = await showRun(server.redis, runId);
        expect(run.failure).toBeUndefined();
        ({ state } = run);
      }
      await completing;
    }
  });

  test('one that was cancelled while it ran is cancelled, with the reason; asking again makes a new one', async () => {
    const request = fresh();
    const { runId } = await enqueue(server.redis, request, 'amd64');
    const claimed = await claim();
    await using nudges = await subscribeNudges(server.redis);
    await using renewals = renewalsOf(server.redis);
    using renewal = keepRenewed(claimed, { redis: server.redis, nudges, renewals }, never);
    const stopped = once(renewal.signal, 'abort');
    await cancelRun(server.redis, runId, 'enough');
    await stopped;
    const { reason } = renewal.signal as { reason: Error };
    expect(reason).toMatchObject({ name: 'Interruption', reason: 'cancelled' });
    await claimed.fail(failureError(failureOf(reason), reason), { retry: false });
    const run = await showRun(server.redis, runId);
    expect(run).toMatchObject({ state: 'cancelled', failure: { class: 'interrupted', message: 'enough' } });
    expect(run.finished).toBeGreaterThanOrEqual(run.started ?? Infinity);
    expect(await enqueue(server.redis, request, 'amd64', { reuse: true })).toEqual({
      runId: `${runId}-2`,
      state: 'new',
    });
    await (await claim()).complete(outcome());
  });

  test('one that failed is not reused', async () => {
    const request = fresh();
    const { runId } = await enqueue(server.redis, request, 'amd64');
    const error = new UsageError('x', 'no such thing');
    await (await claim()).fail(failureError(failureOf(error), error), { retry: false });
    expect((await enqueue(server.redis, request, 'amd64', { reuse: true })).runId).toBe(`${runId}-2`);
    await (await claim()).complete(outcome());
  });

  test('waiting does without nudges, and ends with the signal', async () => {
    const { runId } = await enqueue(server.redis, fresh(), 'amd64');
    const stop = new AbortController();
    const waiting = waitFor(server.redis, runId, stop.signal, () => stop.abort(new Error('detached')));
    await expect(waiting).rejects.toThrow('detached');
    const mute = waitFor(server.redis, runId, never, async () => {
      const claimed = await claims.claim(buildKey);
      if (claimed === undefined) return;
      await server.redis.client.call('CLIENT', 'KILL', 'TYPE', 'pubsub'); // what is said next is heard by nobody
      await claimed.complete(outcome());
    });
    expect((await mute).state).toBe('completed');
  });

  test('waiting can be given up while Redis does not answer', async () => {
    await using other = await startTestRedis();
    const { runId } = await enqueue(other.redis, fresh(), 'amd64');
    const pid = Number(/^process_id:(\d+)/m.exec(await other.redis.client.info('server'))?.[1]);
    const stop = new AbortController();
    const looked = new Promise<void>((resolve) => {
      void waitFor(other.redis, runId, stop.signal, () => resolve()).catch(() => {});
    });
    await looked;
    process.kill(pid, 'SIGSTOP');
    try {
      const waiting = waitFor(other.redis, runId, stop.signal);
      stop.abort(new Error('detached'));
      await expect(waiting).rejects.toThrow('detached');
    } finally {
      process.kill(pid, 'SIGCONT');
    }
  });

  test('are found by the beginning of their id; of one request the latest', async () => {
    const { runId } = await enqueue(server.redis, fresh(), 'amd64');
    await (await claim()).complete(outcome());
    expect((await findRun(server.redis, runId.slice(0, 10))).id).toBe(runId);
    await expect(findRun(server.redis, 'zzz')).rejects.toThrow(/no job with an id that begins with "zzz"/);
    await expect(findRun(server.redis, 'b')).rejects.toThrow(/beginning of several/);
    expect((await listRuns(server.redis))[0]?.id).toBe(runId);
  });
});

async function connections(): Promise<number> {
  const info = await server.redis.client.info('clients');
  return Number(/^connected_clients:(\d+)/m.exec(info)?.[1]);
}

/** Makes a delayed job due now. */
async function promote(runId: string): Promise<void> {
  const queue = new Queue(buildKey, { connection: server.redis.client, prefix: server.redis.keys.queues });
  const job = await queue.getJob(runId);
  if (await job?.isDelayed()) await job?.promote();
  await queue.close();
}
