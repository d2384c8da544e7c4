/** What happens to a claimed job when something is lost on the way: a reply, a lock, a worker, a readable entry. */
import { once } from 'node:events';
import { readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Queue } from 'bullmq';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { enqueue } from '../../src/producer/enqueue.ts';
import { showRun } from '../../src/producer/runs.ts';
import { failureError, failureOf } from '../../src/protocol/failure.ts';
import { UsageError } from '../../src/protocol/errors.ts';
import type { Nudge } from '../../src/protocol/nudge.ts';
import { connectRedis } from '../../src/redis/connect.ts';
import { acquireEmbedded } from '../../src/redis/embedded.ts';
import { subscribeNudges } from '../../src/redis/nudges.ts';
import { Claims, type Claimed } from '../../src/worker/claims.ts';
import { openJournal, takeDeadIncarnations, type Journal } from '../../src/worker/journal.ts';
import { buildKey, buildRequest, outcome, startTestRedis, type TestRedis } from './fixtures.ts';
import { startLosingProxy } from './losing-proxy.ts';

const never = new AbortController().signal;
let server: TestRedis;
let journal: Journal;
let claims: Claims;

beforeEach(async () => {
  server = await startTestRedis();
  journal = await openJournal(server.state);
  claims = new Claims(server.redis, journal, { stalledCheck: 20 }); // one of a queue's workers looks, whichever
});
afterEach(async () => {
  await claims[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const jobKey = (id: string): string => `${server.redis.keys.queues}:${buildKey}:${id}`;

async function add(name: string): Promise<string> {
  return (await enqueue(server.redis, buildRequest(name), 'amd64')).runId;
}

async function claim(from: Claims = claims): Promise<Claimed> {
  const claimed = await from.claim(buildKey);
  if (claimed === undefined) throw new Error('nothing to claim');
  return claimed;
}

const stateOf = async (runId: string): Promise<string> => (await showRun(server.redis, runId)).state;

/** Until somebody says so on the channel. */
async function listenFor(wanted: (nudge: Nudge) => boolean): Promise<{ readonly heard: Promise<void> }> {
  const nudges = await subscribeNudges(server.redis);
  const heard = new Promise<void>((resolve) => {
    nudges.listen((nudge) => {
      if (wanted(nudge)) void nudges[Symbol.asyncDispose]().then(resolve);
    });
  });
  return { heard };
}

describe('a reply that is lost', () => {
  test('to a claim: the job that nobody knows of goes back, and only that', async () => {
    await using proxy = await startLosingProxy(server.socketPath);
    await using far = await connectRedis({ kind: 'embedded', socketPath: proxy.socketPath }, 'test');
    await using farClaims = new Claims(far, journal);
    await farClaims.claim(buildKey); // the script is known to the server from now on
    const ids = [await add('one'), await add('two')];
    const lost = proxy.loseReplyTo(/evalsha/i);
    const first = await claim(farClaims);
    await lost;
    expect((await Promise.all(ids.map(stateOf))).toSorted()).toEqual(['active', 'waiting']);
    expect(await stateOf(first.runId)).toBe('active');
    await first.complete(outcome());
    const second = await claim(farClaims);
    await second.complete(outcome());
    expect([first.runId, second.runId].toSorted()).toEqual(ids.toSorted());
  });

  test('to the claim of the only job: it is the next one', async () => {
    await using proxy = await startLosingProxy(server.socketPath);
    await using far = await connectRedis({ kind: 'embedded', socketPath: proxy.socketPath }, 'test');
    await using farClaims = new Claims(far, journal);
    await farClaims.claim(buildKey);
    const runId = await add('only');
    const lost = proxy.loseReplyTo(/evalsha/i);
    expect(await farClaims.claim(buildKey)).toBeUndefined();
    await lost;
    expect((await claim(farClaims)).runId).toBe(runId);
  });
});

test('a claim whose answer never came stays in the journal: the next worker gives its job back', async () => {
  await using proxy = await startLosingProxy(server.socketPath);
  await using far = await connectRedis({ kind: 'embedded', socketPath: proxy.socketPath }, 'test');
  const ending = await openJournal(server.state);
  {
    await using farClaims = new Claims(far, ending);
    await farClaims.claim(buildKey);
    const runId = await add('unanswered');
    const lost = proxy.loseReplyTo(/evalsha/i);
    const claiming = farClaims.claim(buildKey).catch(() => 'rejected');
    await lost;
    far.client.disconnect(); // as at the end of a worker
    expect(await claiming).toBe('rejected');
    expect(await stateOf(runId)).toBe('active');
  }
  await ending[Symbol.asyncDispose]();
  await writeFile(path.join(ending.folder, 'owner.json'), JSON.stringify({ pid: 1, started: '0', bootId: 'x' }));
  const [dead] = await takeDeadIncarnations(server.state);
  expect(dead?.claims).toHaveLength(1);
  const [entry] = dead?.claims ?? [];
  expect(await claims.giveBackToken(buildKey, entry?.token ?? '')).toHaveLength(1);
  expect((await claim()).data).toMatchObject({ source: { package: 'unanswered' } });
});

describe('a lock that ran out', () => {
  test('its job goes back to the queue, workers hear of it, and the old owner may not settle', async () => {
    await using sweeping = new Claims(server.redis, journal, { stalledCheck: 20 });
    const runId = await add('stalled');
    const gone = await claim();
    const again = await listenFor((nudge) => 'enqueued' in nudge && nudge.enqueued === buildKey);
    await server.redis.client.del(`${jobKey(runId)}:lock`);
    expect(await sweeping.claim(buildKey)).toBeUndefined(); // knows the queue from now on
    await again.heard;
    const next = await claim(sweeping);
    expect(next.runId).toBe(runId);
    await expect(gone.complete(outcome('late'))).rejects.toThrow(/the claim was lost/);
    await next.complete(outcome('in time'));
    expect(await showRun(server.redis, runId)).toMatchObject({ outcome: { result: { status: 'in time' } } });
  });

  test('a job whose lock holds stays where it is', async () => {
    await using sweeping = new Claims(server.redis, journal, { stalledCheck: 20 });
    const runId = await add('held');
    const mine = await claim();
    await sweeping.claim(buildKey);
    const sentry = await add('sentry'); // three sweeps bring back this one, and not the other
    const other = await claim(sweeping);
    const again = await listenFor((nudge) => 'enqueued' in nudge);
    await server.redis.client.del(`${jobKey(sentry)}:lock`);
    await again.heard;
    expect(other.runId).toBe(sentry);
    expect(await stateOf(runId)).toBe('active');
    await mine.complete(outcome());
  });
});

test('a job given back wakes the other workers', async () => {
  await add('returned');
  const claimed = await claim();
  const woken = await listenFor((nudge) => 'enqueued' in nudge && nudge.enqueued === buildKey);
  await claimed.giveBack();
  await woken.heard;
});

describe('an entry that is no job of ours', () => {
  const broken: [string, string, string][] = [
    ['data', '{"v":1,', '{"v":1,'],
    ['data', '', ''],
    ['opts', 'not json', 'whatever'],
  ];
  test.each(broken)(
    '%s that is no JSON (%s): claimed raw, failed alone, and the next one runs',
    async (field, text) => {
      const queue = new Queue(buildKey, { connection: server.redis.client, prefix: server.redis.keys.queues });
      await queue.add('x', { hello: 1 }, { jobId: 'evil' });
      await queue.close();
      await server.redis.client.hset(jobKey('evil'), field, text);
      const good = await add('good');
      const claimed = await claim();
      expect(claimed.runId).toBe('evil');
      if (field === 'data' && text !== '') expect(claimed.data).toBe(text);
      const error = new UsageError('v', 'malformed queue entry');
      await claimed.fail(failureError(failureOf(error), error), { retry: false });
      await server.redis.client.hset(server.redis.keys.run('evil'), { queue: buildKey });
      expect(await showRun(server.redis, 'evil')).toMatchObject({ state: 'failed', failure: { class: 'usage' } });
      expect((await claim()).runId).toBe(good);
    },
  );

  test('an id without a job does not stop the queue', async () => {
    await server.redis.client.lpush(`${server.redis.keys.queues}:${buildKey}:wait`, 'ghost');
    const good = await add('good');
    const first = await claim();
    if (first.runId === 'ghost') {
      await first.fail(new Error('no such job'), { retry: false }).catch(() => {});
      expect((await claim()).runId).toBe(good);
    } else expect(first.runId).toBe(good);
  });
});

test('the server killed and replaced under a running job: its result still counts', async () => {
  const runId = await add('survivor');
  const claimed = await claim();
  const pid = Number(/^process_id:(\d+)/m.exec(await server.redis.client.info('server'))?.[1]);
  const down = once(server.redis.client, 'close');
  process.kill(pid, 'SIGKILL');
  await down;
  const completing = claimed.complete(outcome());
  await using _ = await acquireEmbedded(server.state, never);
  await completing;
  expect(await showRun(server.redis, runId)).toMatchObject({ state: 'completed' });
});

describe('the journal', () => {
  test('forgets nothing that is not settled: a clean end leaves it to the next worker', async () => {
    const other = await openJournal(server.state);
    {
      await using closing = new Claims(server.redis, other);
      await add('unsettled');
      await claim(closing);
    }
    await other[Symbol.asyncDispose]();
    expect(await readdir(server.state.workers)).toContain(other.incarnation);
    const settled = await openJournal(server.state);
    await settled[Symbol.asyncDispose]();
    expect(await readdir(server.state.workers)).not.toContain(settled.incarnation);
  });

  test('what a dead worker left is taken by one only, however many look, and whenever', async () => {
    const dead = new Set<string>();
    for (let i = 0; i < 12; i += 1) {
      const left = await openJournal(server.state);
      await left.write({ key: buildKey, token: `${i}` });
      await writeFile(path.join(left.folder, 'owner.json'), JSON.stringify({ pid: 1, started: '0', bootId: 'x' }));
      dead.add(left.incarnation);
    }
    const looks: Promise<string[]>[] = [];
    for (let i = 0; i < 8; i += 1) {
      looks.push(takeDeadIncarnations(server.state).then((all) => all.map(({ incarnation }) => incarnation)));
      await readdir(server.state.workers); // the next one begins while the others are at it
    }
    const taken = (await Promise.all(looks)).flat();
    expect(taken.toSorted()).toEqual([...dead].toSorted());
  });

  test('one that is just being opened is nobody’s to take', async () => {
    const opening = Array.from({ length: 6 }, () => openJournal(server.state));
    const taking = Array.from({ length: 6 }, () => takeDeadIncarnations(server.state));
    expect((await Promise.all(taking)).flat()).toEqual([]);
    for (const opened of await Promise.all(opening)) await opened.write({ key: buildKey, token: 'x' });
  });

  test('one whose maker died before it had written who it is, is cleared away', async () => {
    const half = await openJournal(server.state);
    await writeFile(path.join(half.folder, 'owner.json'), '{"pid":');
    const [found] = await takeDeadIncarnations(server.state);
    expect(found).toMatchObject({ incarnation: half.incarnation, claims: [] });
    await found?.forget();
    expect(await readdir(server.state.workers)).not.toContain(half.incarnation);
  });
});
