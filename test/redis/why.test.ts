/** Why jobs wait, one by one and in a list: backing off, left to others, the lease of an image, what a host holds back. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ownIdentity } from '../../src/exec/process-identity.ts';
import { redisLeases } from '../../src/golden/lease.ts';
import { enqueue, enqueueAll } from '../../src/producer/enqueue.ts';
import { drainHost, findHost, lastHeard, listHosts } from '../../src/producer/hosts.ts';
import { listAll, listOpen } from '../../src/producer/list.ts';
import { pause } from '../../src/producer/pause.ts';
import { runsOfLabel, runsOnHost } from '../../src/producer/select.ts';
import { liveWorkers } from '../../src/producer/workers.ts';
import { whyWaiting } from '../../src/producer/why.ts';
import { failureError } from '../../src/protocol/failure.ts';
import { refreshRequest } from '../../src/protocol/job-request.ts';
import { presenceSchema, type Presence } from '../../src/protocol/presence.ts';
import { leaveToOthers, noteFailedOn } from '../../src/worker/avoid.ts';
import { announce } from '../../src/worker/presence.ts';
import { buildRequest, outcome, presenceOf } from './fixtures.ts';
import { begin, claim, claims, cleanUp, journal, server } from './world.ts';

const updateKey = 'update-golden.any.amd64.m.img';
const never = new AbortController().signal;

beforeEach(begin);
afterEach(cleanUp);

const add = async (name: string, options = {}): Promise<string> =>
  (await enqueue(server.redis, buildRequest(name), 'amd64', options)).runId;

function host(name: string, more: Partial<Presence> = {}, incarnation = `of-${name}`) {
  const about = presenceSchema.parse({ ...presenceOf(name, incarnation, ['img']), ...more });
  return announce(server.redis.client, server.redis.keys, () => about, { beat: 1e6, alive: 30_000 });
}

/** As `ps` has it. */
async function listed(id: string): Promise<{ host?: string; why?: string } | undefined> {
  const found = (await listOpen(server.redis, 1000)).runs.find((run) => run.id === id);
  return found && { ...(found.host ? { host: found.host } : {}), ...(found.why ? { why: found.why } : {}) };
}

describe('a job that was tried', () => {
  test('backs off, and says after what', async () => {
    const id = await add('p');
    const failure = { class: 'infrastructure', message: 'overlay: open: no space' } as const;
    const claimed = await claim();
    await claimed.fail(failureError(failure, undefined), { retry: true });
    await noteFailedOn(server.redis, id, 'bay1');
    const [line, ...more] = await whyWaiting(server.redis, id);
    expect(line).toMatch(/^backs off after a failure of the testbed \(overlay: open: no space\): again in [12] s$/);
    expect(more).toEqual([]);
    expect((await listed(id))?.why).toMatch(/^backs off after a failure/);
  });

  test('is left to the others: that is no failure of its testbed', async () => {
    await using bay1 = await host('bay1');
    await using bay2 = await host('bay2');
    const id = await add('p');
    await noteFailedOn(server.redis, id, 'bay1');
    const claimed = await claim();
    expect(await leaveToOthers(server.redis, id, { host: 'bay1', image: 'img' })).toBe(true);
    await claimed.leave(60_000);
    const text = 'left to other hosts, its testbed failed on bay1: again in 60 s';
    expect(await whyWaiting(server.redis, id)).toEqual([text]);
    expect(await listed(id)).toEqual({ why: text });
    await noteFailedOn(server.redis, id, 'bay2');
    expect((await whyWaiting(server.redis, id))[0]).toMatch(/^backs off after a failure of the testbed: again/);
    for (const part of [bay1, bay2]) await part[Symbol.asyncDispose]();
  });
});

test('an update that waits for the lease of its image says who has it; the one that has it waits for nothing', async () => {
  const { redis } = server;
  await using bay1 = await host('bay1', {}, journal.incarnation);
  const { runId } = await enqueue(redis, refreshRequest('img', 'upgrade'), 'amd64');
  await claim(claims, updateKey);
  expect(await whyWaiting(redis, runId)).toEqual([]);
  const held = await redisLeases(redis, { owner: 'update-golden another' }).acquire('img', 0, never);
  const acquiring = redisLeases(redis, { owner: `update-golden ${runId}` }).acquire('img', 0, never);
  let reasons: string[] = [];
  while (reasons.length === 0) reasons = await whyWaiting(redis, runId);
  expect(reasons).toEqual([
    expect.stringMatching(/^waits for the write lease of img, held by update-golden another for \d+ s$/),
  ]);
  expect(await listed(runId)).toEqual({
    host: 'bay1',
    why: expect.stringMatching(/^waits for the write lease of img/),
  });
  await held[Symbol.asyncDispose]();
  await using lease = await acquiring;
  expect(await whyWaiting(redis, runId)).toEqual([]);
  for (const part of [lease, bay1]) await part[Symbol.asyncDispose]();
});

test('what a host holds back on one backend keeps no job of another', async () => {
  const { redis } = server;
  const backends = { overlay: null, docker: null };
  const troubles = ['img@3 on docker: failed 3 times in a row: no space', 'img on qemu: failed 3 times in a row: x'];
  await using bay1 = await host('bay1', { backends, troubles });
  const docker = await enqueue(redis, { ...buildRequest('p'), backend: 'docker' }, 'amd64');
  expect(await whyWaiting(redis, docker.runId)).toEqual([`bay1 holds back: ${troubles[0]}`]);
  for (const backend of ['any', 'overlay'] as const) {
    const { runId } = await enqueue(redis, { ...buildRequest('p'), backend }, 'amd64');
    expect(await whyWaiting(redis, runId)).toEqual(['bay1 will take it at once']);
  }
  await bay1[Symbol.asyncDispose]();
});

describe('a list', () => {
  test('has a reason for each job that waits, asked once a queue, and the host of each that runs', async () => {
    const { redis } = server;
    await using bay1 = await host('bay1', { busy: 1 }, journal.incarnation);
    await using bay2 = await host('bay2', { busy: 1 });
    const running = await add('running');
    await claim();
    const queued = await add('queued');
    const label = await add('label', { labels: ['nmu'] });
    const one = await add('one');
    const { runId: other } = await enqueue(redis, { ...buildRequest('p'), image: 'sid' }, 'amd64');
    await pause(redis, 'label:nmu', 'holidays');
    await pause(redis, `job:${one}`, 'not today');
    expect(await listed(running)).toEqual({ host: 'bay1' });
    expect(await listed(queued)).toEqual({ why: 'bay1 has no free slot (1 of 1 busy) (2 hosts: goldbed why)' });
    expect(await listed(label)).toEqual({ why: 'label nmu is paused: holidays' });
    expect(await listed(one)).toEqual({ why: `job ${one} is paused: not today` });
    expect(await listed(other)).toEqual({ why: 'no host that runs has the image sid' });
    await bay2[Symbol.asyncDispose]();
    await drainHost(redis, 'bay1', 'new disks');
    expect(await listed(queued)).toEqual({ why: 'bay1 is drained: new disks' });
    await bay1[Symbol.asyncDispose]();
  });

  test('finds what runs, and what carries a label, behind any number of newer jobs', async () => {
    const { redis } = server;
    const running = await add('running', { labels: ['old'] });
    await claim();
    const waiting = await add('waiting', { labels: ['old'] });
    const done = await add('done', { labels: ['old'] });
    for (const job of [await claim(), await claim()])
      await (job.runId === done ? job.complete(outcome()) : job.giveBack());
    const newer = Array.from({ length: 60 }, (_, index) => buildRequest(`new${index}`));
    await enqueueAll(redis, newer, 'amd64');
    const all = await listOpen(redis, 50);
    expect(all.runs).toHaveLength(50);
    expect(all.more).toBe(12);
    expect(all.runs.at(-1)?.id).toBe(running);
    const label = (await runsOfLabel(redis, 'old')).toReversed();
    const open = await listOpen(redis, 50, label);
    expect(open.runs.map(({ id }) => id).toSorted()).toEqual([running, waiting].toSorted());
    const ended = await listAll(redis, label, 50);
    expect(ended.runs.find(({ id }) => id === done)).toMatchObject({ state: 'completed', host: 'here' });
    expect(ended.more).toBe(0);
    expect((await listOpen(redis, 1, label)).more).toBe(1);
  });
});

test('a host that fell silent is shown for a day, with its last heartbeat, and what it ran can be cancelled', async () => {
  const { redis } = server;
  const { client, keys } = redis;
  const other = { bootId: 'another' };
  await using bay1 = await host('bay1', other, journal.incarnation);
  await using bay2 = await host('bay2', other);
  const id = await add('p');
  await claim();
  const heard = Date.now() - 3_600_000;
  await client.zadd(keys.workers, heard + 30_000, `bay1/${journal.incarnation}`);
  const [silent, live] = await listHosts(redis);
  expect(silent).toMatchObject({ host: 'bay1', workers: [], silent: [{ host: 'bay1', heard }] });
  expect(live).toMatchObject({ host: 'bay2', workers: [{ host: 'bay2' }], silent: [] });
  expect(Math.abs(Date.now() - (lastHeard(await findHost(redis, 'bay2')) ?? 0))).toBeLessThan(5_000);
  expect(await runsOnHost(redis, 'bay1')).toEqual([id]);
  await using again = await host('bay1', other, 'anew');
  expect(await findHost(redis, 'bay1')).toMatchObject({ workers: [{ incarnation: 'anew' }], silent: [] });
  await again[Symbol.asyncDispose]();
  await client.zadd(keys.workers, Date.now() - 2 * 86_400_000, `bay1/${journal.incarnation}`);
  expect((await listHosts(redis)).map(({ host: name }) => name)).toEqual(['bay2']);
  for (const part of [bay1, bay2]) await part[Symbol.asyncDispose]();
});

test('of a worker in another container of this machine its heartbeat tells, not the processes that are seen here', async () => {
  const { redis } = server;
  const own = ownIdentity();
  const dead = { pid: own.pid, started: '1', bootId: own.bootId }; // there is no such process here
  const unseen = { ...dead, pidNamespace: '4026539999' };
  await using bay1 = await host('bay1', unseen);
  await using bay2 = await host('bay2', { ...dead, pidNamespace: own.pidNamespace });
  expect((await liveWorkers(redis.client, redis.keys)).map((worker) => worker.host)).toEqual(['bay1']);
  expect(await listHosts(redis)).toMatchObject([
    { host: 'bay1', workers: [{ host: 'bay1' }], silent: [] },
    { host: 'bay2', workers: [], silent: [{ host: 'bay2' }] },
  ]);
  expect(await whyWaiting(redis, await add('p'))).toEqual(['bay1 will take it at once']);
  await redis.client.zadd(redis.keys.workers, 1, 'bay1/of-bay1'); // long ago
  expect(await liveWorkers(redis.client, redis.keys)).toEqual([]);
  for (const part of [bay1, bay2]) await part[Symbol.asyncDispose]();
});

test('what a newer version says beside the rest of its heartbeat is passed over', () => {
  const known = presenceOf('bay1', 'x', ['img']);
  expect(presenceSchema.parse({ ...known, invented: { later: 1 } })).toEqual(known);
});
