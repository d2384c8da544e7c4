/** What a worker tells on its port: Prometheus text, whether it lives, whether it takes jobs. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { enqueue } from '../../src/producer/enqueue.ts';
import { drainHost, resumeHost } from '../../src/producer/hosts.ts';
import { pause } from '../../src/producer/pause.ts';
import { redisLeases } from '../../src/golden/lease.ts';
import { failureError, type Failure } from '../../src/protocol/failure.ts';
import { refreshRequest } from '../../src/protocol/job-request.ts';
import { showLease } from '../../src/redis/lease-view.ts';
import { Breaker } from '../../src/worker/breaker.ts';
import type { Claimed } from '../../src/worker/claimed.ts';
import { Claims } from '../../src/worker/claims.ts';
import { startHealthServer, type HealthServer } from '../../src/worker/health-server.ts';
import { HostGuard } from '../../src/worker/host-guard.ts';
import { openJournal } from '../../src/worker/journal.ts';
import { Metrics } from '../../src/worker/metrics.ts';
import type { Ledger } from '../../src/worker/ledger.ts';
import { buildKey, buildRequest, outcome, startTestRedis, type TestRedis, ledgerOf } from './fixtures.ts';

const never = new AbortController().signal;
let server: TestRedis;
let breaker: Breaker;
let ledger: Ledger;
let claims: Claims;
let metrics: Metrics;
let health: HealthServer;

beforeEach(async () => {
  server = await startTestRedis();
  breaker = new Breaker();
  ledger = ledgerOf(3);
  claims = new Claims(server.redis, await openJournal(server.state));
  metrics = new Metrics(worker());
  const guard = new HostGuard({ redis: server.redis, host: 'bay1', breaker });
  health = await startHealthServer({ port: 0, registry: metrics.registry, notReady: () => guard.notReady() });
});
afterEach(async () => {
  await claims[Symbol.asyncDispose]();
  await health[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const worker = () => ({
  redis: server.redis,
  host: 'bay1',
  incarnation: 'one',
  ledger,
  breaker,
  refreshWaits: () => 2,
  refreshed: async () => new Map([['img', 1500]]),
});

async function get(page: string): Promise<{ status: number; text: string }> {
  const response = await fetch(`http://127.0.0.1:${health.port}${page}`);
  return { status: response.status, text: await response.text() };
}

async function claim(): Promise<Claimed> {
  const claimed = await claims.claim(buildKey);
  if (claimed === undefined) throw new Error('nothing to claim');
  return claimed;
}

const add = async (name: string): Promise<string> => (await enqueue(server.redis, buildRequest(name), 'amd64')).runId;
const key = 'kind="build",backend="any",arch="amd64",size="m",image="img"';

test('slots, queues, the wait for a claim', async () => {
  await add('one');
  await add('two');
  using _ = ledger.reserve('m');
  await metrics.count(await claim(), (claimed) => claimed.complete(outcome()));
  const { status, text } = await get('/metrics');
  expect(status).toBe(200);
  expect(text).toContain('goldbed_slots{host="bay1"} 3');
  expect(text).toContain('goldbed_slots_busy{host="bay1"} 1');
  expect(text).toContain(`goldbed_queue_jobs{${key},state="waiting",host="bay1"} 1`);
  expect(text).toContain('goldbed_slots_wanted{arch="amd64",backend="any",host="bay1"} 1');
  expect(text).toContain('goldbed_refresh_waiting_jobs{host="bay1"} 2');
  expect(text).toContain('goldbed_image_refreshed_timestamp_seconds{image="img",host="bay1"} 1.5');
  expect(text).toMatch(/goldbed_claim_wait_seconds_count\{[^}]*kind="build"[^}]*\} 1/);
});

test('jobs by how they ended: the verdict, or what came in its way; what only waits has not ended', async () => {
  const image = { class: 'infrastructure', message: 'overlay: open: no space' } as const;
  const said = (failure: Failure): Error => failureError(failure, undefined);
  const ways: [string, (claimed: Claimed) => Promise<void>][] = [
    ['successful', (claimed) => claimed.complete(outcome())],
    ['attempted', (claimed) => claimed.complete(outcome('attempted'))],
    ['other', (claimed) => claimed.complete(outcome('whatever-a-log-says'))],
    ['retried', (claimed) => claimed.fail(said(image), { retry: true })],
    ['infrastructure', (claimed) => claimed.fail(said(image), { retry: false })],
    ['cancelled', (claimed) => claimed.fail(said({ class: 'interrupted', message: 'x' }), { retry: false })],
    ['usage', (claimed) => claimed.fail(said({ class: 'usage', message: 'x' }), { retry: false })],
    ['lost', async () => {}],
    ['returned', (claimed) => claimed.giveBack()],
  ];
  for (const [name, way] of ways) {
    await add(name);
    await metrics.count(await claim(), way);
    if (name === 'returned') await (await claim()).complete(outcome());
  }
  await add('parked');
  await metrics.count(await claim(), (claimed) => claimed.leave(1e6));
  const { text } = await get('/metrics');
  for (const [name] of ways) expect(text).toContain(`goldbed_jobs_total{kind="build",outcome="${name}",host="bay1"} 1`);
  expect(text.match(/^goldbed_jobs_total/gm)).toHaveLength(ways.length);
  expect(text).toContain('goldbed_infrastructure_failures_total{kind="build",backend="any",image="img",host="bay1"} 2');
});

test('a result that came too late is lost, and refreshes are counted by image', async () => {
  const { redis } = server;
  await add('late');
  const late = await claim();
  await redis.client.set(`${redis.keys.queues}:${buildKey}:${late.runId}:lock`, 'another');
  const telling = metrics.count(late, (claimed) => claimed.complete(outcome()).catch(() => {}));
  await telling;
  await enqueue(redis, refreshRequest('img', 'upgrade'), 'amd64');
  const refresh = await claims.claim('update-golden.any.amd64.m.img');
  if (refresh === undefined) throw new Error('nothing to claim');
  const error = failureError({ class: 'infrastructure', message: 'x' }, undefined);
  await metrics.count(refresh, (claimed) => claimed.fail(error, { retry: true }));
  const { text } = await get('/metrics');
  expect(text).toContain('goldbed_jobs_total{kind="build",outcome="lost",host="bay1"} 1');
  expect(text).toContain('goldbed_refreshes_total{image="img",outcome="retried",host="bay1"} 1');
});

test('the age of a queue is that of its oldest waiting job, whoever is before it', async () => {
  const { redis } = server;
  const jobOf = (id: string): string => `${redis.keys.queues}:${buildKey}:${id}`;
  await enqueue(redis, buildRequest('first'), 'amd64', { tenant: 'a' });
  const { runId } = await enqueue(redis, buildRequest('second'), 'amd64', { tenant: 'b' });
  await redis.client.hset(jobOf(runId), 'timestamp', Date.now() - 100_000);
  await redis.client.zadd(redis.keys.ready, Date.now() - 1e7, buildKey); // it has had work for hours
  const { text } = await get('/metrics');
  const [, seconds] = new RegExp(`goldbed_queue_oldest_seconds\\{${key},host="bay1"\\} ([0-9.]+)`).exec(text) ?? [];
  expect(Number(seconds)).toBeGreaterThanOrEqual(100);
  expect(Number(seconds)).toBeLessThan(120);
});

test('who writes an image, and how many wait for that', async () => {
  const { redis } = server;
  await enqueue(redis, refreshRequest('img', 'upgrade'), 'amd64');
  await using held = await redisLeases(redis, { owner: 'update-golden one' }).acquire('img', 0, never);
  void held;
  const giveUp = new AbortController();
  const waiting = redisLeases(redis, { owner: 'update-golden two' }).acquire('img', 0, giveUp.signal);
  while (((await showLease(redis, 'img'))?.waiting ?? []).length === 0);
  const { text } = await get('/metrics');
  expect(text).toMatch(/goldbed_lease_held_seconds\{image="img",host="bay1"\} [0-9.e-]+/);
  expect(text).toContain('goldbed_lease_waiting{image="img",host="bay1"} 1');
  giveUp.abort();
  await expect(waiting).rejects.toThrow(/abort/);
});

test('one worker of the fleet tells of the queues, in few commands, however many there are', async () => {
  const { redis } = server;
  const keys = Array.from({ length: 500 }, (_, index) => `build.any.amd64.m.image${index}`);
  await redis.client.zadd(redis.keys.known, ...keys.flatMap((name) => [Date.now(), name]));
  await pause(redis, 'image:img', 'broken mirror');
  await add('paused');
  const other = new Metrics({ ...worker(), host: 'bay2', incarnation: 'two' });
  const asked = async (registry: Metrics['registry']): Promise<{ text: string; sent: number }> => {
    const sending = vi.spyOn(redis.client, 'sendCommand');
    const text = await registry.metrics();
    const sent = sending.mock.calls.length;
    sending.mockRestore();
    return { text, sent };
  };
  const first = await asked(metrics.registry);
  expect(first.text).toContain(`goldbed_queue_jobs{${key},state="waiting",host="bay1"} 1`);
  expect(first.text).toContain('goldbed_slots_wanted{arch="amd64",backend="any",host="bay1"} 0');
  expect(first.text).not.toContain('image0"');
  expect(first.sent).toBeLessThan(10);
  expect(await asked(metrics.registry)).toMatchObject({ sent: 0 }); // the look holds for a while
  const second = await asked(other.registry);
  expect(second.text).not.toMatch(/^goldbed_queue_jobs\{/m);
  expect(second.text).toContain('goldbed_slots{host="bay2"} 3');
  expect(second.sent).toBe(1);
});

test('it lives; it is ready unless it is drained or holds back', async () => {
  expect(await get('/livez')).toEqual({ status: 200, text: 'ok\n' });
  expect(await get('/readyz')).toEqual({ status: 200, text: 'ok\n' });
  await drainHost(server.redis, 'bay1', 'new disks');
  expect(await get('/readyz')).toEqual({ status: 503, text: 'drained\n' });
  await resumeHost(server.redis, 'bay1');
  for (let i = 0; i < 5; i += 1) breaker.began().ended({ kind: 'testbed', message: 'no space' });
  expect(await get('/readyz')).toEqual({
    status: 503,
    text: 'this host: failed 5 times in a row: no space\n',
  });
  expect((await get('/else')).status).toBe(404);
});

test('a port that is taken is one clear line', async () => {
  const options = { port: health.port, registry: metrics.registry, notReady: async () => undefined };
  await expect(startHealthServer(options)).rejects.toThrow(
    `worker.metrics: cannot listen on port ${health.port}: listen EADDRINUSE`,
  );
});
