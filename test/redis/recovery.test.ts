/** What happens to a claimed job when something is lost on the way: a reply, a lock, a worker, a readable entry. */
import { once } from 'node:events';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Queue } from 'bullmq';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { enqueue } from '../../src/producer/enqueue.ts';
import { showRun } from '../../src/producer/runs.ts';
import { failureError, failureOf } from '../../src/protocol/failure.ts';
import { UsageError } from '../../src/protocol/errors.ts';
import { connectRedis } from '../../src/redis/connect.ts';
import { acquireEmbedded } from '../../src/redis/embedded.ts';
import { Claims } from '../../src/worker/claims.ts';
import { openJournal, takeDeadIncarnations, type Ended, type Journal } from '../../src/worker/journal.ts';
import { heldJobs } from '../../src/redis/held.ts';
import { recover } from '../../src/worker/recover.ts';
import { buildKey, buildRequest, outcome } from './fixtures.ts';
import { listenFor } from './listen-for.ts';
import { startLosingProxy } from './losing-proxy.ts';
import { begin, claim, claims, cleanUp, journal, server } from './world.ts';

const never = new AbortController().signal;

beforeEach(begin);
afterEach(cleanUp);

const jobKey = (id: string): string => `${server.redis.keys.queues}:${buildKey}:${id}`;

async function add(name: string): Promise<string> {
  return (await enqueue(server.redis, buildRequest(name), 'amd64')).runId;
}

const stateOf = async (runId: string): Promise<string> => (await showRun(server.redis, runId)).state;

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

describe('a lock that ran out while Redis was away', () => {
  test('is taken again at the next renewal, and its job ends once', async () => {
    const runId = await add('outage');
    const mine = await claim();
    await server.redis.client.del(`${jobKey(runId)}:lock`);
    expect(await mine.renew()).toBe(true);
    expect(await claims.claim(buildKey)).toBeUndefined();
    await mine.complete(outcome());
    expect(await stateOf(runId)).toBe('completed');
  });

  test('is taken again at the end, too', async () => {
    const runId = await add('outage');
    const mine = await claim();
    await server.redis.client.del(`${jobKey(runId)}:lock`);
    await mine.complete(outcome());
    expect(await stateOf(runId)).toBe('completed');
  });

  test('is not taken from whoever has begun the job since', async () => {
    const runId = await add('begun anew');
    const late = await claim();
    await server.redis.client.del(`${jobKey(runId)}:lock`);
    expect(await claims.giveBackUnlocked(buildKey, runId)).toBe(true);
    expect(await late.renew()).toBe(false);
    const next = await claim();
    await server.redis.client.del(`${jobKey(runId)}:lock`);
    expect(await late.renew()).toBe(false);
    await expect(late.complete(outcome('late'))).rejects.toThrow(/the claim was lost/);
    await next.complete(outcome('in time'));
    expect(await showRun(server.redis, runId)).toMatchObject({ outcome: { result: { status: 'in time' } } });
  });
});

describe('an outcome that was written down, and not told', () => {
  test('is told by the next worker of the host, and the job does not run again', async () => {
    const left = await openJournal(server.state);
    const dying = new Claims(server.redis, left);
    const runId = await add('told late');
    await dying.claim(buildKey);
    await kill(left, { runId, attempt: 1, outcome: outcome('told late') });
    const lines: string[] = [];
    await recover(server.state, claims, [], (line) => lines.push(line));
    expect(lines).toEqual([`${runId}: ended before its worker died; its outcome is recorded now`]);
    expect(await showRun(server.redis, runId)).toMatchObject({ outcome: { result: { status: 'told late' } } });
    expect(await claims.claim(buildKey)).toBeUndefined();
  });

  test('does not count when another host has run the job meanwhile', async () => {
    const left = await openJournal(server.state);
    const dying = new Claims(server.redis, left);
    const runId = await add('run twice');
    await dying.claim(buildKey);
    const [token] = (await heldJobs(server.redis, buildKey)).map((held) => held.token ?? '');
    await claims.giveBackToken(buildKey, token ?? '');
    const next = await claim();
    await kill(left, { runId, attempt: 1, outcome: outcome('late') });
    await recover(server.state, claims, [], () => {});
    await next.complete(outcome('in time'));
    expect(await showRun(server.redis, runId)).toMatchObject({ outcome: { result: { status: 'in time' } } });
  });

  /** As after SIGKILL: the one claim in the journal has its outcome, and its owner is no process. */
  async function kill(left: Journal, ended: Ended): Promise<void> {
    for (const name of await readdir(left.folder)) {
      if (!name.startsWith('claim-')) continue;
      const file = path.join(left.folder, name);
      await writeFile(file, JSON.stringify({ ...(JSON.parse(await readFile(file, 'utf8')) as object), ended }));
    }
    await writeFile(path.join(left.folder, 'owner.json'), JSON.stringify({ pid: 1, started: '0', bootId: 'x' }));
  }
});

test('a job that kills whoever runs it is given up after five times', async () => {
  const runId = await add('killer');
  for (let i = 0; i < 5; i += 1) {
    await claim();
    const [held] = await heldJobs(server.redis, buildKey);
    await claims.giveBackToken(buildKey, held?.token ?? '');
  }
  expect(await claims.claim(buildKey)).toBeUndefined();
  expect(await showRun(server.redis, runId)).toMatchObject({
    state: 'failed',
    failure: { class: 'lost', message: 'its worker died or fell silent 5 times while it ran' },
  });
});

test('a job given back wakes the other workers', async () => {
  await add('returned');
  const claimed = await claim();
  const woken = await listenFor(server.redis, (nudge) => 'enqueued' in nudge && nudge.enqueued === buildKey);
  await claimed.giveBack();
  await woken.heard;
});

describe('an entry that is no job of ours', () => {
  const broken: [string, string, string][] = [
    ['data', '{"v":1,', '{"v":1,'],
    ['data', '', ''],
    ['opts', 'not json', 'whatever'],
    ['opts', 'null', 'whatever'],
    ['progress', 'not json', 'whatever'],
    ['parent', 'not json', 'whatever'],
    ['timestamp', 'not a number', 'whatever'],
  ];
  test.each(broken)(
    '%s that is not what it should be (%s): claimed raw, failed alone, and the next one runs',
    async (field, text) => {
      const queue = new Queue(buildKey, { connection: server.redis.client, prefix: server.redis.keys.queues });
      await queue.add('x', { hello: 1 }, { jobId: 'evil' });
      await queue.close();
      await server.redis.client.hset(jobKey('evil'), field, text);
      const good = await add('good');
      const claimed = await claim();
      expect([claimed.runId, Number.isFinite(claimed.submitted)]).toEqual(['evil', true]); // handed over as JSON
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
