/** Whole jobs on hosts that fail in one way or another: what becomes of the job, and who is blamed. */
import { readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { Queue } from 'bullmq';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { enqueue } from '../../src/producer/enqueue.ts';
import { showRun } from '../../src/producer/runs.ts';
import { ImageLeaseLost, TestbedError } from '../../src/protocol/errors.ts';
import type { JobRequest } from '../../src/protocol/job-request.ts';
import { budgets } from '../../src/worker/budgets.ts';
import type { Claimed } from '../../src/worker/claimed.ts';
import { handle, type Ending } from '../../src/worker/handle.ts';
import type { Host } from '../../src/worker/host.ts';
import { buildKey, buildRequest, outcome } from './fixtures.ts';
import { nullHost } from './null-host.ts';
import { begin, claim as claimWaiting, claims, cleanUp, journal, server } from './world.ts';

const never = new AbortController().signal;

beforeEach(begin);
afterEach(cleanUp);

async function add(request: JobRequest = buildRequest('pkg')): Promise<string> {
  return (await enqueue(server.redis, request, 'amd64')).runId;
}

/** The next one; one that backs off need not be waited for. */
async function claim(): Promise<Claimed> {
  const queue = new Queue(buildKey, { connection: server.redis.client, prefix: server.redis.keys.queues });
  await queue.promoteJobs();
  await queue.close();
  return claimWaiting();
}

const lines: string[] = [];
const run = (claimed: Claimed, host: Host): Promise<Ending> =>
  handle(
    claimed,
    host,
    async () => true,
    never,
    (line) => void lines.push(line),
  );

const failing = (name: string, error: Error): Promise<Host> =>
  nullHost(server.state, name, undefined, { openImage: () => Promise.reject(error) });

/** As node makes them of a system call that failed. */
function systemError(code: string, errno: number): Error {
  return Object.assign(new Error(`${code}: write`), { code, errno, syscall: 'write' });
}

const resultOf = async (claimed: Claimed): Promise<unknown> =>
  JSON.parse(
    await readFile(path.join(server.state.jobs, claimed.runId, String(claimed.attempt), 'result.json'), 'utf8'),
  );

describe('a host that cannot do it', () => {
  const withInput: JobRequest = {
    ...buildRequest('pkg'),
    source: {
      type: 'dsc',
      package: 'pkg',
      version: '1',
      main: 'pkg_1.dsc',
      files: [{ name: 'pkg_1.dsc', size: 1, sha256: '0'.repeat(64) }],
    },
  };

  test('has not got an input: others are tried; nowhere is it told once, with what to do', async () => {
    const runId = await add(withInput);
    for (const name of ['bay1', 'bay2', 'bay1']) {
      const ending = await run(await claim(), await nullHost(server.state, name));
      expect(ending).toMatchObject({ kind: 'host', message: expect.stringContaining('pkg_1.dsc') });
      expect((await showRun(server.redis, runId)).state).toBe('delayed');
    }
    await run(await claim(), await nullHost(server.state, 'bay3'));
    const { state, failure } = await showRun(server.redis, runId);
    expect(state).toBe('failed');
    expect(failure?.class).toBe('infrastructure');
    expect(failure?.message).toMatch(
      /^host failed 4 times, on bay1, bay2, bay3; the last time: input pkg_1\.dsc is not/,
    );
    expect(failure?.message).toMatch(/folder "artifacts".* in common/);
  });

  test.each([
    ['ENOSPC', -28],
    ['EIO', -5],
    ['EMFILE', -24],
    ['ENOMEM', -12],
  ])('fails with %s: the job runs elsewhere', async (code, errno) => {
    const runId = await add();
    const ending = await run(await claim(), await failing('bay1', systemError(code, errno)));
    expect(ending).toMatchObject({ kind: 'host', message: `${code}: write` });
    expect((await run(await claim(), await nullHost(server.state, 'bay2'))).kind).toBe('completed');
    expect(await showRun(server.redis, runId)).toMatchObject({ state: 'completed', outcome: { host: 'bay2' } });
  });

  test('cannot even make a folder for the attempt: the job goes back, and does not stay claimed', async () => {
    const runId = await add();
    const state = { ...server.state, jobs: '/etc/hostname/jobs' };
    expect((await run(await claim(), await nullHost(server.state, 'bay1', undefined, { state }))).kind).toBe('host');
    expect((await showRun(server.redis, runId)).state).toBe('delayed');
  });
});

describe('budgets', () => {
  test('each class is counted by itself', async () => {
    const runId = await add();
    const testbed = await failing('bay1', new TestbedError('open', 'overlay', 'no space'));
    for (let i = 1; i < budgets.testbed; i += 1) expect((await run(await claim(), testbed)).kind).toBe('testbed');
    const host = await failing('bay1', systemError('EIO', -5));
    for (let i = 1; i < budgets.host; i += 1) expect((await run(await claim(), host)).kind).toBe('host');
    const lost = await failing('bay1', new ImageLeaseLost('broken'));
    for (let i = 1; i < budgets.image; i += 1) expect((await run(await claim(), lost)).kind).toBe('image');
    expect((await showRun(server.redis, runId)).state).toBe('delayed');
    await run(await claim(), testbed);
    expect(await showRun(server.redis, runId)).toMatchObject({
      state: 'failed',
      failure: {
        class: 'infrastructure',
        message: 'testbed failed 3 times, on bay1; the last time: overlay: open: no space',
      },
    });
  });

  test('a worker that died: five times, and the message names its hosts', async () => {
    const runId = await add();
    for (let i = 0; i < budgets.lost; i += 1) {
      await claim();
      const token = await server.redis.client.get(`${server.redis.keys.queues}:${buildKey}:${runId}:lock`);
      await server.redis.client.zadd(server.redis.keys.workers, 0, `bay${i % 2}/${journal.incarnation}`);
      expect(await claims.giveBackToken(buildKey, token ?? '')).toEqual([runId]);
      await server.redis.client.del(server.redis.keys.workers);
    }
    expect(await claims.claim(buildKey)).toBeUndefined();
    const { failure } = await showRun(server.redis, runId);
    expect(failure).toEqual({
      class: 'lost',
      message: 'its worker died or fell silent 5 times while it ran, on bay0, bay1',
    });
  });

  test('of a job that is gone nothing is counted: no hash is made', async () => {
    const runId = await add();
    await claim();
    const key = `${server.redis.keys.queues}:${buildKey}:${runId}`;
    const token = (await server.redis.client.get(`${key}:lock`)) ?? '';
    const { client } = server.redis;
    // it is removed in the moment after it was given back
    const removed = client.duplicate();
    const original = client.publish.bind(client);
    client.publish = async (...args: Parameters<typeof original>) => {
      await removed.del(key);
      return original(...args);
    };
    await claims.giveBackToken(buildKey, token);
    removed.disconnect();
    expect(await client.exists(key)).toBe(0);
  });
});

describe('an outcome that is there', () => {
  const refusals: [string, () => Promise<unknown>, () => Promise<unknown>, string][] = [
    [
      'has lost its replicas',
      () => server.redis.client.config('SET', 'min-replicas-to-write', '1'),
      () => server.redis.client.config('SET', 'min-replicas-to-write', '0'),
      'errorstat_NOREPLICAS',
    ],
    [
      'is a replica for a while',
      () => server.redis.client.replicaof('127.0.0.1', 1),
      () => server.redis.client.replicaof('NO', 'ONE'),
      'errorstat_READONLY',
    ],
  ];
  test.each(refusals)('is told as soon as Redis takes it, when it %s', async (_, refuse, take, stat) => {
    const runId = await add();
    const claimed = await claim();
    await refuse();
    const ending = run(claimed, await nullHost(server.state, 'bay1'));
    while (!(await server.redis.client.info('errorstats')).includes(stat));
    await take();
    expect((await ending).kind).toBe('completed');
    expect((await showRun(server.redis, runId)).state).toBe('completed');
    expect(await resultOf(claimed)).toMatchObject({ result: { status: 'successful' } });
  });

  test('is told though it cannot be journalled', async () => {
    const runId = await add();
    const claimed = await claim();
    await rm(journal.folder, { recursive: true });
    expect((await run(claimed, await nullHost(server.state, 'bay1'))).kind).toBe('completed');
    expect((await showRun(server.redis, runId)).state).toBe('completed');
  });

  test('is never made a failure, whatever goes wrong in the telling', async () => {
    const runId = await add();
    const claimed = await claim();
    const told = { ...claimed, complete: () => Promise.reject(new Error('what is this?')) };
    expect((await run(told, await nullHost(server.state, 'bay1'))).kind).toBe('other');
    expect((await showRun(server.redis, runId)).state).toBe('active');
    expect(await resultOf(claimed)).toMatchObject({ result: { status: 'successful' } });
    await claimed.complete(outcome());
  });

  test('is told though its folder is gone', async () => {
    const runId = await add();
    const claimed = await claim();
    const jobs = JSON.stringify(server.state.jobs);
    const body = `print "Status: successful\\n"; system 'rm', '-rf', ${jobs};`;
    const ending = await run(claimed, await nullHost(server.state, 'bay1', body));
    expect(['completed', 'host']).toContain(ending.kind);
    expect((await showRun(server.redis, runId)).state).not.toBe('active');
  });
});
