/** Cancelling, pausing and deadlines, of many jobs at once, on a real server with the real claims. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { enqueue, enqueueAll } from '../../src/producer/enqueue.ts';
import { pause, resume } from '../../src/producer/pause.ts';
import { showRun, waitFor } from '../../src/producer/runs.ts';
import { runsOfImage, runsOfLabel, runsOnHost } from '../../src/producer/select.ts';
import { whyWaiting } from '../../src/producer/why.ts';
import { exitCodeOf } from '../../src/protocol/failure.ts';
import { checkedLabels } from '../../src/protocol/label.ts';
import { cancelRuns } from '../../src/redis/cancel.ts';
import { subscribeNudges } from '../../src/redis/nudges.ts';
import { pausedNow } from '../../src/redis/paused.ts';
import { Breaker } from '../../src/worker/breaker.ts';
import { coordinate } from '../../src/worker/coordinator.ts';
import { HostGuard } from '../../src/worker/host-guard.ts';
import { parkIfPaused } from '../../src/worker/parked.ts';
import { announce } from '../../src/worker/presence.ts';
import { keepRenewed } from '../../src/worker/renewal.ts';
import { buildKey, buildRequest, outcome, presenceOf, renewalsOf } from './fixtures.ts';
import { begin, claim, claims, cleanUp, journal, server } from './world.ts';

const never = new AbortController().signal;

beforeEach(begin);
afterEach(cleanUp);

const requests = (count: number, prefix: string) =>
  Array.from({ length: count }, (_, index) => buildRequest(`${prefix}${index}`));

describe('cancelling a label', () => {
  test('ends all that wait, stops what runs, and leaves the others', async () => {
    const { redis } = server;
    await enqueueAll(redis, requests(2000, 'a'), 'amd64', { labels: ['perl-5.40'] });
    const other = await enqueue(redis, buildRequest('b'), 'amd64', { labels: ['other'] });
    const nudges = await subscribeNudges(redis);
    const running = await claim();
    await using renewals = renewalsOf(redis);
    using renewal = keepRenewed(running, { redis, nudges, renewals }, never);
    const stopped = new Promise((resolve) => renewal.signal.addEventListener('abort', resolve, { once: true }));

    const cancelled = await cancelRuns(redis, await runsOfLabel(redis, 'perl-5.40'), 'given up');
    expect(cancelled).toHaveLength(2000);
    await stopped;
    expect(renewal.signal.reason).toMatchObject({ name: 'Interruption', reason: 'cancelled', message: 'given up' });
    await running.giveBack();
    for (const id of [cancelled[0], cancelled[1999]]) {
      if (id !== running.runId) expect(await showRun(redis, id ?? '')).toMatchObject({ state: 'cancelled' });
    }
    expect((await runsOfImage(redis, 'img')).toSorted()).toEqual([running.runId, other.runId].toSorted());
    // what was given back is still meant: its next claim finds the intent
    expect(await cancelRuns(redis, [running.runId], 'given up')).toEqual([running.runId]);
    expect(await runsOfImage(redis, 'img')).toEqual([other.runId]);
    expect(await cancelRuns(redis, [running.runId, 'nobody'], 'again')).toEqual([]);
    await nudges[Symbol.asyncDispose]();
  });

  test('a run that is asked for under another label, too, carries both', async () => {
    const { redis } = server;
    const { runId } = await enqueue(redis, buildRequest('a'), 'amd64', { labels: ['one'] });
    expect(await enqueue(redis, buildRequest('a'), 'amd64', { labels: ['two'] })).toEqual({ runId, state: 'already' });
    expect(await runsOfLabel(redis, 'two')).toEqual([runId]);
    expect((await showRun(redis, runId)).labels).toEqual(['one', 'two']);
  });

  test('what is no label is refused, by name', () => {
    expect(checkedLabels(['b', 'a', 'b'])).toEqual(['a', 'b']);
    expect(() => checkedLabels(['a b'])).toThrow(/--label: expected up to 64 letters, digits.*; found "a b"/);
    expect(() => checkedLabels(Array.from({ length: 17 }, (_, i) => `l${i}`))).toThrow(/at most 16 labels/);
  });
});

test('the runs of a host are those that its workers have claimed', async () => {
  const { redis } = server;
  await using presence = await announce(redis.client, redis.keys, () =>
    presenceOf('bay1', journal.incarnation, ['img']),
  );
  void presence;
  await enqueueAll(redis, requests(3, 'a'), 'amd64');
  const running = await claim();
  expect(await runsOnHost(redis, 'bay1')).toEqual([running.runId]);
  await expect(runsOnHost(redis, 'bay2')).rejects.toThrow(/no host "bay2" \(known: bay1\)/);
  await running.complete(outcome());
  expect(await runsOnHost(redis, 'bay1')).toEqual([]);
});

describe('pausing', () => {
  test('an image: no host takes its jobs, whichever queue they are in, and why says so', async () => {
    const { redis } = server;
    const guard = new HostGuard({ redis, host: 'bay1', breaker: new Breaker() });
    const other = 'build.any.amd64.m.sid';
    const { runId } = await enqueue(redis, buildRequest('a'), 'amd64');
    await pause(redis, 'image:img', 'broken mirror');
    expect(await guard.allowed([buildKey, 'test.overlay.arm64.m.img', other])).toEqual([other]);
    expect(await whyWaiting(redis, runId)).toEqual(['image img is paused: broken mirror']);
    await resume(redis, 'image:img');
    expect(await guard.allowed([buildKey, other])).toEqual([buildKey, other]);
    await expect(resume(redis, 'image:img')).rejects.toThrow('image img is not paused');
  });

  test('a label: its jobs are put off as they are come across, the others run, and resuming wakes them', async () => {
    const { redis } = server;
    const paused = await enqueue(redis, buildRequest('a'), 'amd64', { labels: ['nmu', 'x'] });
    const other = await enqueue(redis, buildRequest('b'), 'amd64');
    await pause(redis, 'label:nmu', 'holidays');
    const first = await claim();
    expect(first.runId).toBe(paused.runId);
    expect(await parkIfPaused(redis, claims, first)).toBe(true);
    expect(await showRun(redis, paused.runId)).toMatchObject({ state: 'delayed', parked: 'label:nmu' });
    expect(await whyWaiting(redis, paused.runId)).toEqual(['label nmu is paused: holidays']);
    const second = await claim();
    expect(second.runId).toBe(other.runId);
    expect(await parkIfPaused(redis, claims, second)).toBe(false);
    await second.complete(outcome());
    expect(await claims.claim(buildKey)).toBeUndefined();

    await resume(redis, 'label:nmu');
    const again = await claim();
    expect(again.runId).toBe(paused.runId);
    expect(await parkIfPaused(redis, claims, again)).toBe(false);
    await again.complete(outcome());
    expect(await showRun(redis, paused.runId)).toMatchObject({ state: 'completed' });
  });

  test('one job: it is put off when it is come across, the others run; cancelling it forgets the pause', async () => {
    const { redis } = server;
    const one = await enqueue(redis, buildRequest('a'), 'amd64');
    const other = await enqueue(redis, buildRequest('b'), 'amd64');
    await pause(redis, `job:${one.runId}`, 'not today');
    expect(await whyWaiting(redis, one.runId)).toEqual([`job ${one.runId} is paused: not today`]);
    expect(await parkIfPaused(redis, claims, await claim())).toBe(true);
    expect(await showRun(redis, one.runId)).toMatchObject({ state: 'delayed', parked: `job:${one.runId}` });
    const second = await claim();
    expect(second.runId).toBe(other.runId);
    expect(await parkIfPaused(redis, claims, second)).toBe(false);
    await resume(redis, `job:${one.runId}`);
    const again = await claim();
    expect(again.runId).toBe(one.runId);
    expect(await parkIfPaused(redis, claims, again)).toBe(false);
    await pause(redis, `job:${one.runId}`, 'too late');
    await again.giveBack();
    await expect(resume(redis, `job:${other.runId}`)).rejects.toThrow(`job ${other.runId} is not paused`);
    expect(await cancelRuns(redis, [one.runId], 'enough')).toEqual([one.runId]);
    expect(await pausedNow(redis)).toEqual(new Map());
  });

  test('a job that is cancelled in the moment in which it is put off ends', async () => {
    const { redis } = server;
    const { runId } = await enqueue(redis, buildRequest('a'), 'amd64', { labels: ['nmu'] });
    await pause(redis, 'label:nmu', '');
    const job = await claim();
    expect(await cancelRuns(redis, [runId], 'enough')).toEqual([runId]);
    expect(await parkIfPaused(redis, claims, job)).toBe(true);
    expect(await showRun(redis, runId)).toMatchObject({ state: 'cancelled', failure: { message: 'enough' } });
  });

  test('a label that is resumed in the moment in which its job is put off does not leave it behind', async () => {
    const { redis } = server;
    const { runId } = await enqueue(redis, buildRequest('a'), 'amd64', { labels: ['nmu'] });
    await pause(redis, 'label:nmu', '');
    const job = await claim();
    const leave = async (delay: number): Promise<void> => {
      await resume(redis, 'label:nmu');
      await job.leave(delay);
    };
    expect(await parkIfPaused(redis, claims, { ...job, leave })).toBe(true);
    const again = await claim();
    expect(again.runId).toBe(runId);
    expect((await showRun(redis, runId)).parked).toBeUndefined();
  });
});

test('a deadline ends a job that waits; one that has ended before is left alone', async () => {
  const { redis } = server;
  const deadline = Date.now() - 1;
  const early = await enqueue(redis, buildRequest('a'), 'amd64', { deadline });
  await (await claim()).complete(outcome());
  const late = await enqueue(redis, buildRequest('b'), 'amd64', { deadline });
  const later = await enqueue(redis, buildRequest('c'), 'amd64', { deadline: Date.now() + 3_600_000 });
  const times = { every: 10, ttl: 10_000, deadAfter: 1e9, regroup: 0, unlockedAfter: 1e9, forgetEvery: 1e9 };
  await using coordinator = coordinate({ redis, incarnation: 'x', claims, log: () => {}, times });
  void coordinator;
  const { state, failure } = await waitFor(redis, late.runId, never);
  expect([state, failure && exitCodeOf(failure)]).toEqual(['cancelled', 75]);
  expect((await showRun(redis, early.runId)).state).toBe('completed');
  expect(await showRun(redis, later.runId)).toMatchObject({ state: 'waiting' });
  expect(await redis.client.zrange(redis.keys.deadlines, '0', '-1')).toEqual([later.runId]);
});
