/** Running again what ran on a generation that turned out bad: which runs, for whom, and what still runs on it. */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { ranOn } from '../../src/cli/ran-on.ts';
import { enqueue } from '../../src/producer/enqueue.ts';
import { runAgain } from '../../src/producer/run-again.ts';
import { showRun } from '../../src/producer/runs.ts';
import { TestbedError } from '../../src/protocol/errors.ts';
import { failureError, failureOf } from '../../src/protocol/failure.ts';
import { subscribeNudges } from '../../src/redis/nudges.ts';
import { keepRenewed } from '../../src/worker/renewal.ts';
import { buildRequest, outcome, renewalsOf } from './fixtures.ts';
import { begin, claim, cleanUp, server } from './world.ts';

const never = new AbortController().signal;
const bad = 'sha256:bad';

beforeEach(begin);
afterEach(async () => {
  vi.useRealTimers();
  await cleanUp();
});

const on = (digest: string) => ({ ...outcome(), generation: { image: 'img', generation: 42, digest } });

async function ended(name: string, digest: string): Promise<string> {
  const { runId } = await enqueue(server.redis, buildRequest(name), 'amd64');
  await (await claim()).complete(on(digest));
  return runId;
}

const affected = async (jobs: readonly string[] = []): Promise<unknown> => {
  const found = await ranOn(server.redis, server.state, 'img', { digest: bad, jobs: new Set(jobs) });
  return found.map(({ run, running }) => (running ? `${run.id} running` : run.id)).toSorted();
};

test('what ran on it is told by the digest: another host’s generation of that number is another one', async () => {
  const ran = await ended('toy-a', bad);
  await ended('toy-b', 'sha256:another');
  expect(await affected()).toEqual([ran]);
});

test('a job that failed on it without a result is one of them, a job that waits is not', async () => {
  const { runId } = await enqueue(server.redis, buildRequest('toy-a'), 'amd64');
  const attempt = path.join(server.state.jobs, runId, '1');
  mkdirSync(attempt, { recursive: true });
  writeFileSync(path.join(attempt, 'generation.json'), JSON.stringify({ image: 'img', generation: 42, digest: bad }));
  const error = new TestbedError('open', 'overlay', 'no such file');
  const claimed = await claim();
  expect(await affected()).toEqual([]); // it will be tried again, on the good one
  await claimed.fail(failureError(failureOf(error), error), { retry: false });
  await enqueue(server.redis, buildRequest('toy-b'), 'amd64');
  expect(await affected()).toEqual([runId]);
});

test('more than a thousand other runs since then do not hide it', { timeout: 120_000 }, async () => {
  const ran = await ended('toy-a', bad);
  const { client, keys } = server.redis;
  const others = client.pipeline();
  for (let index = 0; index < 3000; index += 1) {
    others.zadd(keys.runs, Date.now() + index, `other${index}`).hset(keys.run(`other${index}`), { image: 'other' });
  }
  await others.exec();
  expect(await affected()).toEqual([ran]);
});

test('again means: for the same tenant, under the same labels, until the same time', async () => {
  const deadline = Date.now() + 3_600_000;
  const options = { tenant: 'kde', labels: ['perl-5.40', 'night'], deadline };
  const { runId } = await enqueue(server.redis, buildRequest('toy-a'), 'amd64', options);
  await (await claim()).complete(on(bad));
  const again = await runAgain(server.redis, runId, undefined, 'amd64', never);
  expect(again).toBe(`${runId}-2`);
  expect(await server.redis.client.hgetall(server.redis.keys.run(`${runId}-2`))).toMatchObject({
    tenant: 'kde',
    labels: 'perl-5.40 night',
    deadline: String(deadline),
  });
  expect((await claim()).data).toEqual(buildRequest('toy-a'));
});

test.each([
  ['ahead', 1, 3_600_000, true],
  ['behind', -1, 0, false],
])('a deadline is by Redis’s clock, though this host’s is a year %s', async (_, years, left, kept) => {
  const deadline = Date.now() + left;
  const { runId } = await enqueue(server.redis, buildRequest('toy-a'), 'amd64', { deadline });
  await (await claim()).complete(on(bad));
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + years * 365 * 86_400_000 });
  await runAgain(server.redis, runId, undefined, 'amd64', never);
  vi.useRealTimers();
  const again = await server.redis.client.hget(server.redis.keys.run(`${runId}-2`), 'deadline');
  expect(again).toBe(kept ? String(deadline) : null);
});

test('one that runs on it is stopped, and handed in anew: it would not run on the good one', async () => {
  const { runId } = await enqueue(server.redis, buildRequest('toy-a'), 'amd64', { tenant: 'kde' });
  const running = await claim();
  const nudges = await subscribeNudges(server.redis);
  await using renewals = renewalsOf(server.redis);
  using renewal = keepRenewed(running, { redis: server.redis, nudges, renewals }, never);
  expect(await affected([runId])).toEqual([`${runId} running`]);
  const asked = runAgain(server.redis, runId, 'img@42 is in quarantine: broken', 'amd64', never);
  await new Promise((resolve) => renewal.signal.addEventListener('abort', resolve, { once: true }));
  const reason: unknown = renewal.signal.reason;
  await running.fail(failureError(failureOf(reason), reason), { retry: false });
  expect(await asked).toBe(`${runId}-2`);
  expect(await showRun(server.redis, runId)).toMatchObject({
    state: 'cancelled',
    failure: { message: 'img@42 is in quarantine: broken' },
  });
  expect((await claim()).runId).toBe(`${runId}-2`);
  await nudges[Symbol.asyncDispose]();
});

test('one that ended while it was to be stopped is handed in anew all the same', async () => {
  const runId = await ended('toy-a', bad);
  expect(await runAgain(server.redis, runId, 'quarantine', 'amd64', never)).toBe(`${runId}-2`);
});
