/** Schedules of images, on a real server; only the clock is set by the test, so that nights and weeks pass at once. */
import { Queue } from 'bullmq';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { enqueue } from '../../src/producer/enqueue.ts';
import { listRuns, showRun } from '../../src/producer/runs.ts';
import {
  listSchedules,
  readSchedule,
  removeSchedule,
  setSchedule,
  type ImageSchedule,
} from '../../src/producer/schedules.ts';
import { TestbedError, UsageError } from '../../src/protocol/errors.ts';
import { failureError, failureOf } from '../../src/protocol/failure.ts';
import { refreshRequest } from '../../src/protocol/job-request.ts';
import type { Claimed } from '../../src/worker/claimed.ts';
import { Claims } from '../../src/worker/claims.ts';
import { openJournal } from '../../src/worker/journal.ts';
import { beginScheduled, isScheduled } from '../../src/worker/scheduled.ts';
import { outcome, startTestRedis, type TestRedis } from './fixtures.ts';

const keyOf = (image: string): string => `update-golden.any.amd64.m.${image}`;
const nightly: ImageSchedule = {
  image: 'img',
  cron: '0 3 * * *',
  timeZone: 'Europe/Berlin',
  strategy: 'upgrade',
  by: 'somebody',
};
let server: TestRedis;
let claims: Claims;

beforeEach(async () => {
  server = await startTestRedis();
  claims = new Claims(server.redis, await openJournal(server.state));
  vi.useFakeTimers({ toFake: ['Date'] });
  itIs('2026-03-20T12:00:00Z');
});
afterEach(async () => {
  vi.useRealTimers();
  await claims[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const itIs = (time: string): void => void vi.setSystemTime(new Date(time));
const set = (more: Partial<ImageSchedule> = {}) => setSchedule(server.redis, { ...nightly, ...more }, 'amd64');
const next = async (image = 'img'): Promise<string> =>
  new Date((await readSchedule(server.redis, image))?.next ?? 0).toISOString();

/** What a worker does when it comes by: takes everything that is due. @returns the runs that were begun or joined */
async function comeBy(image = 'img', end?: (claimed: Claimed) => Promise<void>): Promise<string[]> {
  const begun: string[] = [];
  for (;;) {
    const claimed = await claims.claim(keyOf(image));
    if (claimed === undefined) return begun;
    if (!isScheduled(claimed)) {
      await (end ?? ((job) => job.complete(outcome())))(claimed);
      continue;
    }
    await beginScheduled(
      claimed,
      async (request) => {
        const { runId } = await enqueue(server.redis, request, 'amd64');
        begun.push(runId);
        return runId;
      },
      () => {},
    );
  }
}

describe('a nightly refresh', () => {
  test('is a run like any other, each night, at the hour of its time zone whatever the season', async () => {
    expect(await set()).toMatchObject({ ...nightly, next: Date.parse('2026-03-21T02:00:00Z') });
    itIs('2026-03-21T01:59:59Z');
    expect(await comeBy()).toEqual([]);
    itIs('2026-03-21T02:00:00Z');
    const [run = ''] = await comeBy();
    expect(await showRun(server.redis, run)).toMatchObject({
      kind: 'update-golden',
      image: 'img',
      state: 'completed',
      outcome: outcome(),
    });
    expect(await next()).toBe('2026-03-22T02:00:00.000Z');
    itIs('2026-03-28T02:00:00Z');
    await comeBy();
    expect(await next()).toBe('2026-03-29T01:00:00.000Z'); // summer time has begun
  });

  test('at an hour that the clock skips comes an hour later; at one that it has twice, it comes', async () => {
    await set({ cron: '30 2 * * *' });
    const nights = [];
    for (const start of ['2026-03-28T03:00:00Z', '2026-10-24T03:00:00Z']) {
      itIs(start);
      await comeBy();
      for (let hour = 1; hour <= 48; hour += 1) {
        itIs(new Date(Date.parse(start) + hour * 3_600_000).toISOString());
        if ((await comeBy()).length > 0) nights.push(new Date().toISOString());
      }
    }
    expect(nights.map((night) => night.slice(0, 13))).toEqual([
      '2026-03-29T02', // 01:30 UTC would be 02:30, which is not there: 03:30
      '2026-03-30T01',
      '2026-10-25T01', // the first of two: claimed half an hour late, there is time for the second
      '2026-10-25T02',
      '2026-10-26T02',
    ]);
  });

  test('that nobody came for, a week long, is made up for once', async () => {
    await set();
    itIs('2026-03-28T12:00:00Z');
    const begun = await comeBy();
    expect(begun).toHaveLength(1);
    expect(await comeBy()).toEqual([]);
    expect((await listRuns(server.redis)).map(({ id }) => id)).toEqual(begun);
    expect(await next()).toBe('2026-03-29T01:00:00.000Z');
    itIs('2026-03-29T01:00:00Z');
    expect(await comeBy()).toHaveLength(1);
  });

  test('joins one that is under way, and nothing piles up behind a refresh that takes days', async () => {
    await set();
    const first = await enqueue(server.redis, refreshRequest('img', 'upgrade'), 'amd64');
    const running = await claims.claim(keyOf('img'));
    for (const day of ['21', '22', '23']) {
      itIs(`2026-03-${day}T02:00:00Z`);
      expect(await comeBy()).toEqual([first.runId]);
    }
    await running?.complete(outcome());
    expect(await comeBy()).toEqual([]);
    expect(await listRuns(server.redis)).toHaveLength(1);
  });

  test('goes on after one that failed, and others are not affected', async () => {
    await set();
    await set({ image: 'other' });
    const error = new TestbedError('open', 'overlay', 'no space');
    const fail = (claimed: Claimed): Promise<void> =>
      claimed.fail(failureError(failureOf(error), error), { retry: false });
    for (const day of ['21', '22', '23']) {
      itIs(`2026-03-${day}T02:00:00Z`);
      const [bad = ''] = await comeBy('img', fail);
      const [good = ''] = await comeBy('other');
      expect((await showRun(server.redis, bad)).state).toBe('failed');
      expect((await showRun(server.redis, good)).state).toBe('completed');
    }
    expect(await next('img')).toBe(await next('other'));
  });

  test('whose token is lost with its worker, after the claim, is begun by the next, once; the chain does not break', async () => {
    await set();
    itIs('2026-03-21T02:00:00Z');
    // BullMQ puts the next token into the queue in a step of its own, after the claim: this worker dies in between
    const queue = `${server.redis.keys.queues}:${keyOf('img')}`;
    const [token = ''] = await server.redis.client.zrange(`${queue}:delayed`, '0', '-1');
    const worker = new Claims(server.redis, await openJournal(server.state));
    const claimed = await worker.claim(keyOf('img'));
    expect(claimed?.runId).toBe(token);
    const [following = ''] = await server.redis.client.zrange(`${queue}:delayed`, '0', '-1');
    await server.redis.client.multi().zrem(`${queue}:delayed`, following).del(`${queue}:${following}`).exec();
    await server.redis.client.zadd(`${queue}:repeat`, Date.now(), 'schedule');
    await claimed?.giveBack();
    expect(await comeBy()).toHaveLength(1);
    expect(await next()).toBe('2026-03-22T02:00:00.000Z');
    itIs('2026-03-22T02:00:00Z');
    expect(await comeBy()).toHaveLength(1);
  });

  test('given back by a worker that shuts down, it is begun once', async () => {
    await set();
    itIs('2026-03-21T02:00:00Z');
    const claimed = await claims.claim(keyOf('img'));
    await claimed?.giveBack();
    expect(await comeBy()).toHaveLength(1);
    expect(await comeBy()).toEqual([]);
    expect(await next()).toBe('2026-03-22T02:00:00.000Z');
  });

  test('whose entry another program has spoilt is told, and the next one comes', async () => {
    await set();
    const queue = `${server.redis.keys.queues}:${keyOf('img')}`;
    const [token = ''] = await server.redis.client.zrange(`${queue}:delayed`, '0', '-1');
    await server.redis.client.hset(`${queue}:${token}`, 'data', '{"rm": "-rf /"}');
    itIs('2026-03-21T02:00:00Z');
    expect(await comeBy()).toEqual([]);
    itIs('2026-03-22T02:00:00Z');
    expect(await comeBy()).toHaveLength(1);
  });
});

describe('making it', () => {
  test('again as it is changes nothing: a worker that starts does not forget the night that was missed', async () => {
    await set();
    itIs('2026-03-25T12:00:00Z');
    expect((await set()).next).toBe(Date.parse('2026-03-21T02:00:00Z'));
    expect(await comeBy()).toHaveLength(1);
  });

  test('again mends it: a token that is lost, or that a clock which was ahead has put far off', async () => {
    vi.useRealTimers();
    const { next: soon } = await set();
    const queue = new Queue(keyOf('img'), { connection: server.redis.client, prefix: server.redis.keys.queues });
    const token = async (): Promise<string> => queue.getJobState(`repeat:schedule:${soon}`);
    const at = `${server.redis.keys.queues}:${keyOf('img')}`;
    await server.redis.client.zrem(`${at}:delayed`, `repeat:schedule:${soon}`);
    await server.redis.client.del(`${at}:repeat:schedule:${soon}`);
    expect(await token()).toBe('unknown');
    expect((await set()).next).toBe(soon);
    expect(await token()).toBe('delayed');
    await removeSchedule(server.redis, 'img');
    itIs(new Date(soon + 365 * 86_400_000).toISOString());
    expect((await set()).next).toBeGreaterThan(soon);
    vi.useRealTimers();
    expect((await set()).next).toBe(soon);
    expect(await queue.getDelayedCount()).toBe(1);
    await queue.close();
  });

  test('anew in another way replaces it', async () => {
    await set();
    await set({ cron: '30 4 * * sun', timeZone: 'UTC', strategy: 'replace' });
    expect(await listSchedules(server.redis)).toMatchObject([
      { cron: '30 4 * * sun', timeZone: 'UTC', strategy: 'replace', next: Date.parse('2026-03-22T04:30:00Z') },
    ]);
    itIs('2026-03-22T04:30:00Z');
    const [run = ''] = await comeBy();
    expect(run).toMatch(/^u/);
    const queue = new Queue(keyOf('img'), { connection: server.redis.client, prefix: server.redis.keys.queues });
    expect(((await queue.getJob(run)) as { data: unknown } | undefined)?.data).toEqual(
      refreshRequest('img', 'replace'),
    );
    expect(await queue.getDelayedCount()).toBe(1);
    await queue.close();
  });

  test('for a day that never comes is refused, and leaves what was there', async () => {
    await set();
    await expect(set({ cron: '0 0 31 2 *' })).rejects.toBeInstanceOf(UsageError);
    await expect(set({ image: 'other', cron: '0 0 30 2 *' })).rejects.toThrow(/"0 0 30 2 \*" cannot be a schedule/);
    expect(await listSchedules(server.redis)).toMatchObject([nightly]);
  });

  test('and removing it: nothing comes any more, and nothing is left', async () => {
    await set();
    await set({ image: 'other' });
    expect(await removeSchedule(server.redis, 'img')).toBe(true);
    expect(await removeSchedule(server.redis, 'img')).toBe(false);
    itIs('2026-03-25T12:00:00Z');
    expect(await comeBy()).toEqual([]);
    expect((await listSchedules(server.redis)).map(({ image }) => image)).toEqual(['other']);
    expect(await comeBy('other')).toHaveLength(1);
  });
});
