/** Claims and heartbeats are renewed by a thread of their own: what happens while the thread that runs the jobs is busy. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setImmediate as turn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { enqueue } from '../../src/producer/enqueue.ts';
import { showRun } from '../../src/producer/runs.ts';
import { LeaseLost } from '../../src/protocol/errors.ts';
import { connectRedis, type RedisHandle } from '../../src/redis/connect.ts';
import { acquireEmbedded } from '../../src/redis/embedded.ts';
import { persist } from '../../src/redis/persist.ts';
import type { Claimed } from '../../src/worker/claimed.ts';
import { announce, liveIncarnations } from '../../src/worker/presence.ts';
import { keepRenewed } from '../../src/worker/renewal.ts';
import type { Renewals } from '../../src/worker/renewals.ts';
import { Renewing } from '../../src/worker/renewing.ts';
import { startBlackholeProxy } from './blackhole-proxy.ts';
import { buildKey, buildRequest, outcome, presenceOf, renewalsOf } from './fixtures.ts';
import { begin, claim as claimWaiting, claims, cleanUp, journal, server } from './world.ts';

/** Milliseconds: a lock and a heartbeat hold for much less than the loop is busy. */
const times = { every: 200, lock: 1000, deadline: 60_000 };
const heartbeat = { beat: 200, alive: 1000 };
const busy = 4000;

const never = new AbortController().signal;
const nudges = { listen: () => () => {} };

beforeEach(begin);
afterEach(cleanUp);

/** A job that is handed in for it. */
async function claim(): Promise<Claimed> {
  await enqueue(server.redis, buildRequest('toy'), 'amd64');
  return claimWaiting();
}

const lockOf = ({ runId }: Claimed): string => `${server.redis.keys.queues}:${buildKey}:${runId}:lock`;

/** Until the first renewal: the lock of a fresh claim holds for longer than the pace's. */
async function renewedOnce(claimed: Claimed): Promise<void> {
  while ((await server.redis.client.pttl(lockOf(claimed))) > times.lock) await turn();
}

/** Another worker, in a process of its own. @returns what it gave back so far */
async function startRival(): Promise<{ readonly said: string[]; end(): Promise<void> }> {
  const script = fileURLToPath(new URL('rival.ts', import.meta.url));
  const args = ['--import', 'tsx', script, server.state.root, server.socketPath];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const said: string[] = [];
  const lines = createInterface({ input: child.stdout }).on('line', (line) => said.push(line));
  await once(lines, 'line');
  said.pop();
  return {
    said,
    async end() {
      child.kill('SIGKILL');
      await once(lines, 'close');
    },
  };
}

/** The whole loop: nothing is renewed, heard or told from here. */
function block(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

/** The same work without a thread. */
function onThisThread(redis: RedisHandle): Renewals {
  let lose = (): void => {};
  const renewing = new Renewing({ connect: () => Promise.resolve(redis), lost: () => lose(), patience: 1e9 });
  const renewed = new SharedArrayBuffer(8);
  return {
    hold(held, pace, lost) {
      lose = lost;
      renewing.hear({ say: 'hold', claim: held, pace, renewed });
      const { token } = held;
      return { renewed: () => performance.now(), [Symbol.dispose]: () => renewing.hear({ say: 'let-go', token }) };
    },
    keepAlive(heart) {
      renewing.hear({ say: 'keep-alive', heart });
      const say = (what: 'beaten' | 'quiet') => () => renewing.hear({ say: what });
      return { beaten: say('beaten'), [Symbol.dispose]: say('quiet') };
    },
  };
}

async function beBusyBeside(
  renewals: Renewals,
  check: (claimed: Claimed, given: readonly string[], signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const { redis } = server;
  const rival = await startRival();
  const about = (): ReturnType<typeof presenceOf> => presenceOf('bay1', journal.incarnation, ['img']);
  await using presence = await announce(redis.client, redis.keys, about, heartbeat, renewals);
  void presence;
  const claimed = await claim();
  using renewal = keepRenewed(claimed, { redis, nudges, renewals }, never, times);
  await renewedOnce(claimed);
  block(busy);
  const live = await liveIncarnations(redis.client, redis.keys); // asked before any timer of ours can beat again
  await rival.end();
  expect(live.has(journal.incarnation)).toBe(rival.said.length === 0);
  await check(claimed, rival.said, renewal.signal);
}

test('a loop that is busy for longer than a lock and a heartbeat hold loses neither', async () => {
  await using renewals = renewalsOf(server.redis);
  await beBusyBeside(renewals, async (claimed, given, signal) => {
    expect([given, signal.aborted]).toEqual([[], false]);
    await claimed.complete(outcome());
    expect(await showRun(server.redis, claimed.runId)).toMatchObject({ state: 'completed', outcome: { attempt: 1 } });
  });
});

test('without the thread both would be lost, and the job would be another’s', async () => {
  await beBusyBeside(onThisThread(server.redis), async (claimed, given) => {
    expect(given).toEqual([expect.stringMatching(`^${claimed.runId}: given back, `)]);
    await expect(claimed.complete(outcome())).rejects.toBeInstanceOf(LeaseLost);
    expect((await claims.claim(buildKey))?.runId).toBe(claimed.runId);
  });
});

test('a claim that somebody else has is told as lost', async () => {
  await using renewals = renewalsOf(server.redis);
  const claimed = await claim();
  using renewal = keepRenewed(claimed, { redis: server.redis, nudges, renewals }, never, times);
  const stopped = once(renewal.signal, 'abort');
  await server.redis.client.set(lockOf(claimed), 'another');
  await stopped;
  expect(renewal.signal.reason).toBeInstanceOf(LeaseLost);
});

test('a Redis that does not answer for longer than a lock holds loses nothing', async () => {
  await using proxy = await startBlackholeProxy(server.socketPath);
  const target = { kind: 'url', url: proxy.socketPath, allowUnsafe: true } as const;
  await using far = await connectRedis(target, 'test', 500);
  await using renewals = renewalsOf(far);
  const claimed = await claim();
  using renewal = keepRenewed(claimed, { redis: far, nudges, renewals }, never, times);
  await renewedOnce(claimed);
  proxy.drop();
  while ((await server.redis.client.exists(lockOf(claimed))) === 1) await turn();
  expect(renewal.signal.aborted).toBe(false);
  proxy.mend();
  while ((await server.redis.client.get(lockOf(claimed))) !== claimed.token) await turn();
  expect(renewal.signal.aborted).toBe(false);
  await claimed.complete(outcome());
});

test('a server that is replaced finds the claim renewed again', async () => {
  await using renewals = renewalsOf(server.redis);
  const claimed = await claim();
  using renewal = keepRenewed(claimed, { redis: server.redis, nudges, renewals }, never, times);
  await renewedOnce(claimed);
  const pid = Number(/^process_id:(\d+)/m.exec(await server.redis.client.info('server'))?.[1]);
  process.kill(pid, 'SIGKILL');
  await once(server.redis.client, 'close');
  await using again = await acquireEmbedded(server.state, never);
  void again;
  const before = Date.now();
  // the connection may break once more in its first moments
  const left = (): Promise<number> => persist(server.redis, () => server.redis.client.pttl(lockOf(claimed)));
  while ((await left()) < times.lock / 2 || Date.now() - before < times.lock) await turn();
  expect(renewal.signal.aborted).toBe(false);
  await claimed.complete(outcome());
});

test('a thread that dies is begun anew, and told of what is held', async () => {
  const lines: string[] = [];
  await using renewals = renewalsOf(server.redis, (line) => lines.push(line));
  const claimed = await claim();
  using renewal = keepRenewed(claimed, { redis: server.redis, nudges, renewals }, never, times);
  await renewedOnce(claimed);
  const nonsense = renewals.hold({ ...claimed, token: 'nonsense' }, undefined as never, () => {});
  while (lines.length === 0) await turn();
  nonsense[Symbol.dispose]();
  expect(lines).toEqual([expect.stringMatching(/^the thread that renews claims has failed: /)]);
  await server.redis.client.pexpire(lockOf(claimed), 2 * times.lock);
  await renewedOnce(claimed);
  expect(renewal.signal.aborted).toBe(false);
});

test('the thread does not keep its process', async () => {
  const script = fileURLToPath(new URL('hold-and-end.ts', import.meta.url));
  const child = spawn(process.execPath, ['--import', 'tsx', script, server.socketPath], { stdio: 'inherit' });
  expect(await once(child, 'exit')).toEqual([0, null]);
});
