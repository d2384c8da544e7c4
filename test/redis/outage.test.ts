/**
 * Redis breaks off or refuses in the moment in which a job is handed in or held back, or a worker sets up: none of them is
 * judged by that.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { applySchedules } from '../../src/cli/freshness.ts';
import { loadSettings, type Settings } from '../../src/config/load.ts';
import { askForRefresh } from '../../src/producer/refresh.ts';
import { enqueue, enqueueAll, type Enqueued } from '../../src/producer/enqueue.ts';
import { pause } from '../../src/producer/pause.ts';
import { showRun, type RunDetails } from '../../src/producer/runs.ts';
import { listSchedules, setSchedule } from '../../src/producer/schedules.ts';
import { LeaseLost } from '../../src/protocol/errors.ts';
import { refreshRequest, requestId, type JobRequest } from '../../src/protocol/job-request.ts';
import { connectRedis } from '../../src/redis/connect.ts';
import type { Claimed } from '../../src/worker/claimed.ts';
import { Claims } from '../../src/worker/claims.ts';
import { parkIfPaused } from '../../src/worker/parked.ts';
import { publishFiles } from '../unit/golden/fixtures/images.ts';
import { buildKey, buildRequest, outcome } from './fixtures.ts';
import { begin, claims, cleanUp, gate, image, journal, server } from './freshness-world.ts';
import { giveUpAt, type GivenUp } from './give-up.ts';

beforeEach(begin);
afterEach(cleanUp);

const hour = 3_600_000;
const ways: GivenUp[] = ['unsent', 'unanswered'];

/** Claimed from a queue of its own; of an image of its own, so that it asks for a refresh of its own. */
async function claimedOf(name: string, more: Partial<JobRequest> = {}): Promise<[Claimed, JobRequest]> {
  const request = { ...buildRequest('toy'), image: name, maxAge: 3600, ...more } as JobRequest;
  await enqueue(server.redis, request, 'amd64', { labels: ['nmu'] });
  return [await claimAgain(name), request];
}

async function claimAgain(name: string): Promise<Claimed> {
  const claimed = await claims.claim(`build.any.amd64.m.${name}`);
  if (claimed === undefined) throw new Error('nothing to claim');
  return claimed;
}

/** Does it once for each of the commands that it sends, and that one is given up. @returns how many these were */
async function atEachCommand(how: GivenUp, prepare: (name: string) => Promise<() => Promise<void>>): Promise<number> {
  for (let nth = 1; ; nth += 1) {
    const act = await prepare(`img${nth}`);
    using fault = giveUpAt(server.redis.client, nth, how);
    await act();
    if (!fault.reached) return nth - 1;
  }
}

/** As if the server had become somebody's replica: it reads, and writes nothing. */
async function refusingUntilAsked<T>(action: Promise<T>): Promise<T> {
  const { client } = server.redis;
  while (!(await client.info('errorstats')).includes('errorstat_READONLY'));
  await client.replicaof('NO', 'ONE');
  return action;
}

/** That its claim is lost says no more than that it was put off already: its answer did not come. */
const unlessLost = (error: unknown): false => {
  if (error instanceof LeaseLost) return false;
  throw error;
};

const stale = { imageOf: async () => ({ generation: 1, next: 2, looked: Date.now() - 5 * hour }) };
const fresh = { imageOf: async () => ({ generation: 1, next: 2, looked: Date.now() }) };
const run = ({ runId }: Claimed): Promise<RunDetails> => showRun(server.redis, runId);

describe('a job that is handed in and has ended before its producer is told', () => {
  const one = async (request: JobRequest): Promise<Enqueued> => enqueue(server.redis, request, 'amd64');
  const many = async (request: JobRequest): Promise<Enqueued> =>
    (await enqueueAll(server.redis, [request], 'amd64'))[0] as Enqueued;

  test.each([
    ['alone', one],
    ['with others', many],
  ])('is not done twice, whichever answer is lost (%s)', async (_, hand) => {
    await using other = await connectRedis({ kind: 'embedded', socketPath: server.socketPath }, 'test');
    await using worker = new Claims(other, journal);
    for (let nth = 1, reached = true; reached; nth += 1) {
      const request = buildRequest(`toy${nth}`);
      const workOn = async (): Promise<void> => (await worker.claim(buildKey))?.complete(outcome());
      using fault = giveUpAt(server.redis.client, nth, 'unanswered', workOn);
      const { runId } = await hand(request);
      reached = fault.reached;
      await workOn();
      expect({ nth, runId }).toEqual({ nth, runId: requestId(request) });
      expect((await showRun(other, runId)).state).toBe('completed');
      if (!reached) expect(nth).toBeGreaterThan(8); // as many commands as there are without a fault
    }
  });
});

describe('a job whose image is too old', () => {
  test.each(ways)('waits for its refresh, whichever command is given up (%s)', async (how) => {
    using through = gate(stale);
    const jobs: [string, Claimed][] = [];
    const commands = await atEachCommand(how, async (name) => {
      const [claimed, request] = await claimedOf(name);
      jobs.push([name, claimed]);
      return async () => expect(await through.admit(claimed, request).catch(unlessLost)).toBe(false);
    });
    expect(commands).toBeGreaterThan(20); // as many as there are without a fault
    for (const [name, claimed] of jobs) {
      const { state, waits } = await run(claimed);
      expect({ name, state, of: waits?.image }).toEqual({ name, state: 'delayed', of: name });
      expect((await showRun(server.redis, waits?.run ?? '')).state).toBe('waiting');
      const { run: only } = await askForRefresh(server.redis, refreshRequest(name, 'upgrade'), 'amd64', 0);
      expect(only).toBe(waits?.run);
    }
  });

  test.each(ways)('begins when that has ended, whichever command is given up (%s)', async (how) => {
    using before = gate(stale);
    using after = gate(fresh);
    const commands = await atEachCommand(how, async (name) => {
      const [first, request] = await claimedOf(name);
      await before.admit(first, request);
      await claims.promote(first.key, first.runId);
      const claimed = await claimAgain(name);
      return async () => expect(await after.admit(claimed, request)).toBe(true);
    });
    expect(commands).toBe(2);
  });

  test('waits, though the server refuses to write that down', async () => {
    using through = gate(stale);
    const [claimed, request] = await claimedOf('sid');
    await server.redis.client.replicaof('127.0.0.1', 1);
    expect(await refusingUntilAsked(through.admit(claimed, request))).toBe(false);
    expect(await run(claimed)).toMatchObject({ state: 'delayed', waits: { image: 'sid' } });
  });
});

test('a job that is paused is put off, though the server refuses to write that down', async () => {
  const { redis } = server;
  const [claimed] = await claimedOf('sid');
  await pause(redis, 'label:nmu', 'holidays');
  await redis.client.replicaof('127.0.0.1', 1);
  expect(await refusingUntilAsked(parkIfPaused(redis, claims, claimed))).toBe(true);
  expect(await run(claimed)).toMatchObject({ state: 'delayed', parked: 'label:nmu' });
});

describe('a worker that sets up its schedules', () => {
  const by = 'configuration of bay1';
  const nightly = { cron: '0 3 * * *', timeZone: 'UTC', strategy: 'upgrade', by } as const;

  async function settings(): Promise<Settings> {
    const home = path.join(server.state.root, 'config');
    await mkdir(path.join(home, 'goldbed'), { recursive: true });
    const yaml = `worker: {name: bay1}\nimages: {policy: {${image}: {schedule: 0 4 * * *, timeZone: UTC}}}\n`;
    await writeFile(path.join(home, 'goldbed/a.yaml'), yaml);
    return loadSettings({ XDG_CONFIG_HOME: home }, 0);
  }

  test.each(ways)('has them, whichever command is given up (%s)', async (how) => {
    const context = { settings: await settings(), state: server.state };
    await publishFiles(server.state, image, { marker: '1' });
    const lines: string[] = [];
    const commands = await atEachCommand(how, async () => {
      await setSchedule(server.redis, { ...nightly, image }, 'amd64');
      await setSchedule(server.redis, { ...nightly, image: 'gone' }, 'amd64');
      return async () => {
        await applySchedules(context, server.redis, (line) => void lines.push(line));
      };
    });
    expect(commands).toBeGreaterThan(10);
    expect(lines).toEqual([]);
    expect(await listSchedules(server.redis)).toMatchObject([{ image, cron: '0 4 * * *', by }]);
  });

  test('goes on when the server refuses, and tells what is left', async () => {
    const context = { settings: await settings(), state: server.state };
    await setSchedule(server.redis, { ...nightly, image: 'gone' }, 'amd64');
    await server.redis.client.replicaof('127.0.0.1', 1);
    const lines: string[] = [];
    await applySchedules(context, server.redis, (line) => void lines.push(line));
    await server.redis.client.replicaof('NO', 'ONE');
    expect(lines).toEqual([
      expect.stringMatching(/^images\.policy\.img: READONLY/),
      expect.stringMatching(/^schedules that the configuration asks for no more may be left: READONLY/),
    ]);
  });
});
