/** Jobs are due, and results too old, by Redis's clock, whatever the hosts' own say: those jump, and differ. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { enqueue } from '../../src/producer/enqueue.ts';
import { showRun } from '../../src/producer/runs.ts';
import { findReady, readyKeys } from '../../src/redis/ready.ts';
import type { Claimed } from '../../src/worker/claimed.ts';
import { forgetOld } from '../../src/worker/forget.ts';
import { buildKey, buildRequest, outcome } from './fixtures.ts';
import { begin, claim, claims, cleanUp, server } from './world.ts';

const day = 86_400_000;

beforeEach(begin);
afterEach(async () => {
  vi.useRealTimers();
  await cleanUp();
});

/** @param off milliseconds by which this host's clock is ahead of Redis's from now on */
function clockIs(off: number): void {
  vi.useRealTimers();
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + off });
}

async function claimed(): Promise<Claimed> {
  const { runId } = await enqueue(server.redis, buildRequest('toy'), 'amd64');
  const job = await claim();
  expect(job.runId).toBe(runId);
  return job;
}

test('results stay, whatever the clocks of the hosts that bring them', async () => {
  const runIds: string[] = [];
  for (const off of [0, 400 * day, -400 * day, 0]) {
    const { runId } = await enqueue(server.redis, buildRequest(`toy${runIds.length}`), 'amd64');
    runIds.push(runId);
    clockIs(off);
    await (await claims.claim(buildKey))?.complete(outcome());
    clockIs(0);
  }
  await forgetOld(server.redis);
  const states = await Promise.all(runIds.map(async (runId) => (await showRun(server.redis, runId)).state));
  expect(states).toEqual(['completed', 'completed', 'completed', 'completed']);
  await forgetOld(server.redis, Date.now() + 31 * day);
  expect((await showRun(server.redis, runIds[1] as string)).state).toBe('absent');
});

/** As the coordinator and a host do it. */
async function claimWhenDue(): Promise<Claimed> {
  // it is not due yet, and the queue is settled; unless this machine stood still
  const early = await claims.claim(buildKey);
  if (early !== undefined) return early;
  while (!(await readyKeys(server.redis)).includes(buildKey)) await findReady(server.redis, [buildKey]);
  const job = await claims.claim(buildKey);
  if (job === undefined) throw new Error('it is due, and cannot be claimed');
  return job;
}

const putOff: [string, (job: Claimed) => Promise<void>][] = [
  ['left for others', (job) => job.leave(500)],
  ['tried again', (job) => job.fail(new Error('its testbed broke'), { retry: true })],
];
const clocks: [string, number, number][] = [
  ['a day ahead when it is put off', day, 0],
  ['a day behind when it is due', 0, -day],
];
for (const [what, action] of putOff) {
  test.each(clocks)(`what is ${what}, by a host that is %s`, async (_, before, after) => {
    const job = await claimed();
    clockIs(before);
    await action(job);
    clockIs(after);
    expect((await claimWhenDue()).runId).toBe(job.runId);
  });
}
