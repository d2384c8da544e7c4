/** What a worker tells on its port: Prometheus text, whether it lives, whether it takes jobs. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { enqueue } from '../../src/producer/enqueue.ts';
import { drainHost, resumeHost } from '../../src/producer/hosts.ts';
import { Breaker } from '../../src/worker/breaker.ts';
import { Claims } from '../../src/worker/claims.ts';
import { startHealthServer, type HealthServer } from '../../src/worker/health-server.ts';
import { HostGuard } from '../../src/worker/host-guard.ts';
import { openJournal } from '../../src/worker/journal.ts';
import { Metrics } from '../../src/worker/metrics.ts';
import { Slots } from '../../src/worker/slots.ts';
import { buildKey, buildRequest, outcome, startTestRedis, type TestRedis } from './fixtures.ts';

let server: TestRedis;
let breaker: Breaker;
let slots: Slots;
let metrics: Metrics;
let health: HealthServer;

beforeEach(async () => {
  server = await startTestRedis();
  breaker = new Breaker();
  slots = new Slots(3);
  metrics = new Metrics({ redis: server.redis, host: 'bay1', slots, breaker });
  const guard = new HostGuard({ redis: server.redis, host: 'bay1', breaker });
  health = await startHealthServer({ port: 0, registry: metrics.registry, notReady: () => guard.notReady() });
});
afterEach(async () => {
  await health[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

async function get(page: string): Promise<{ status: number; text: string }> {
  const response = await fetch(`http://127.0.0.1:${health.port}${page}`);
  return { status: response.status, text: await response.text() };
}

test('jobs by kind and outcome, slots, queues and how long they have had work', async () => {
  await enqueue(server.redis, buildRequest('one'), 'amd64');
  await enqueue(server.redis, buildRequest('two'), 'amd64');
  await using claims = new Claims(server.redis, await openJournal(server.state));
  const claimed = await claims.claim(buildKey);
  if (claimed === undefined) throw new Error('nothing to claim');
  using _ = slots.tryReserve();
  await metrics.count(claimed, async () => {
    await claimed.complete(outcome());
    return { kind: 'completed' };
  });
  const { status, text } = await get('/metrics');
  expect(status).toBe(200);
  const key = 'kind="build",backend="any",arch="amd64",image="img"';
  expect(text).toContain('goldbed_jobs_total{kind="build",outcome="completed",host="bay1"} 1');
  expect(text).toContain('goldbed_slots{host="bay1"} 3');
  expect(text).toContain('goldbed_slots_busy{host="bay1"} 1');
  expect(text).toContain(`goldbed_queue_jobs{${key},state="waiting",host="bay1"} 1`);
  expect(text).toMatch(new RegExp(`goldbed_queue_ready_seconds\\{${key},host="bay1"\\} [0-9.e-]+`));
  expect(text).toMatch(/goldbed_claim_wait_seconds_count\{[^}]*kind="build"[^}]*\} 1/);
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
