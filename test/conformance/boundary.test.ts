/**
 * What a real worker takes from Redis, and what it puts there: jobs that ask for what the host's configuration does not
 * allow, or stand in a queue that is not theirs; a Redis with a password and a user of few rights; and no secret anywhere.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Queue } from 'bullmq';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Context } from '../../src/cli/context.ts';
import { startWorker, type RunningWorker } from '../../src/cli/run-worker.ts';
import { isExecutable } from '../../src/exec/executable.ts';
import { enqueue } from '../../src/producer/enqueue.ts';
import { showRun, waitFor } from '../../src/producer/runs.ts';
import { buildRequestSchema, type JobRequest } from '../../src/protocol/job-request.ts';
import { connectRedis, type RedisHandle } from '../../src/redis/connect.ts';
import { successful } from '../redis/null-host.ts';
import { nullContext, nullUnavailable } from './fixtures/null-context.ts';
import { describeWith } from './fixtures/requirements.ts';
import { sizesOf } from '../../src/config/sizes.ts';
import { times } from '../../src/protocol/size.ts';

const roomFor = (slots: number) => times(sizesOf().m, slots);

const never = new AbortController().signal;
const password = 'hush-4711';

describeWith('null', nullUnavailable, 'a worker’s border', () => {
  let folder: string;
  let server: ChildProcess;
  let port: number;
  let admin: RedisHandle;
  let worker: RunningWorker | undefined;
  let lines: string[];

  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'goldbed-border-'));
    port = await freePort();
    const program = ['/usr/bin/valkey-server', '/usr/bin/redis-server', '/usr/bin/redis-check-rdb'].find(isExecutable);
    const settings = { port, bind: '127.0.0.1', dir: folder, appendonly: 'yes', 'maxmemory-policy': 'noeviction' };
    const rights = ['~goldbed:*', '&goldbed:*', '+@all', '-@admin', '-@dangerous', '+config|get', '+info'];
    const users = ['--user', 'worker', 'on', `>${password}`, ...rights];
    const args = Object.entries(settings).flatMap(([key, value]) => [`--${key}`, String(value)]);
    server = spawn(program ?? 'redis-server', [...args, ...users], {
      argv0: 'redis-server',
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    for await (const chunk of server.stdout ?? []) {
      said += String(chunk);
      if (said.includes('Ready to accept connections')) break;
    }
    const url = `redis://127.0.0.1:${port}/`;
    admin = await connectRedis({ kind: 'url', url, allowUnsafe: false }, 'goldbed');
  });
  afterAll(async () => {
    await admin[Symbol.asyncDispose]();
    const gone = once(server, 'exit');
    server.kill('SIGKILL');
    await gone;
    await rm(folder, { recursive: true, force: true });
  });
  beforeEach(() => void (lines = []));
  afterEach(async () => {
    worker?.stop('now');
    await worker?.finished;
    await admin.client.flushall();
  });

  const contextOf = (allowed: Record<string, unknown>): Promise<Context> => {
    const environment = 'print map { "$_=$ENV{$_}\\n" } sort keys %ENV;';
    return nullContext(folder, `redis://worker:${password}@127.0.0.1:${port}/`, environment + successful, allowed);
  };

  async function start(context: Context): Promise<void> {
    worker = await startWorker(context, { capacity: roomFor(2), log: (line) => void lines.push(line) });
  }

  const request = (more: Partial<JobRequest> = {}): JobRequest =>
    buildRequestSchema.parse({
      ...{ v: 1, kind: 'build', image: 'mine', source: { type: 'archive', package: 'hello' } },
      ...more,
    });

  /** As another program might: into any queue, whatever the job says. */
  async function smuggle(queueName: string, id: string, data: unknown): Promise<void> {
    const queue = new Queue(queueName, { connection: admin.client, prefix: admin.keys.queues });
    await admin.client.hset(admin.keys.run(id), { queue: queueName });
    await admin.client.zadd(admin.keys.known, Date.now(), queueName);
    await queue.add('x', data, { jobId: id, priority: 1 });
    await queue.close();
    await admin.client.zadd(admin.keys.ready, Date.now(), queueName);
    await admin.client.publish(admin.keys.nudges, JSON.stringify({ enqueued: queueName }));
  }

  test('a job in a queue that is not its own is refused, and the next one runs', async () => {
    await start(await contextOf({ images: ['mine'] }));
    const queue = 'build.any.amd64.m.mine';
    const hostile: [string, JobRequest][] = [
      ['image', request({ image: 'secret' })],
      ['backend', request({ backend: 'docker' })],
      ['kind', { v: 1, kind: 'update-golden', image: 'mine', backend: 'any', strategy: 'replace' }],
    ];
    for (const [id, data] of hostile) {
      await smuggle(queue, id, data);
      const { state, failure } = await waitFor(admin, id, never);
      expect({ id, state, class: failure?.class }).toEqual({ id, state: 'failed', class: 'usage' });
      expect(failure?.message).toMatch(/^malformed queue entry: found in the queue build\.any\.amd64\.m\.mine, but it/);
    }
    const { runId } = await enqueue(admin, request(), 'amd64');
    expect((await waitFor(admin, runId, never)).state).toBe('completed');
  });

  test('no job makes a host use an image or a backend that its configuration does not allow', async () => {
    const context = await contextOf({ images: ['mine'], backends: ['external'] });
    await start(context);
    const refused = [
      await enqueue(admin, request({ image: 'secret' }), 'amd64'),
      await enqueue(admin, request({ backend: 'overlay' }), 'amd64'),
    ];
    const { runId } = await enqueue(admin, request(), 'amd64');
    expect((await waitFor(admin, runId, never)).state).toBe('completed');
    for (const { runId: id } of refused) expect((await showRun(admin, id)).state).toBe('waiting');
    const [presence = ''] = await admin.client.hvals(admin.keys.workerDetails);
    expect(JSON.parse(presence)).toMatchObject({
      images: ['mine'],
      backends: { overlay: expect.stringMatching(/not among worker\.backends/) },
    });
  });

  test('a configuration that names a backend that there is not is one clear line', async () => {
    const context = await contextOf({ backends: ['overlay', 'podman'] });
    await expect(startWorker(context, { capacity: roomFor(1), log: () => {} })).rejects.toThrow(
      'worker.backends: expected overlay, docker, schroot, qemu, external; found "podman"',
    );
    worker = undefined;
  });

  test('a user with few rights is enough; its password is nowhere but in the configuration', async () => {
    const context = await contextOf({});
    await start(context);
    const { runId } = await enqueue(admin, request(), 'amd64');
    const { state, outcome } = await waitFor(admin, runId, never);
    expect(state).toBe('completed');
    const attempt = path.join(context.state.jobs, runId, String(outcome?.attempt));
    const log = await readFile(path.join(attempt, 'log'), 'utf8');
    expect(log).toContain('Status: successful');
    const everything = [lines.join('\n'), log, await readFile(path.join(attempt, 'result.json'), 'utf8')];
    for (const key of await admin.client.keys('*')) everything.push(key, await admin.client.dump(key).then(String));
    expect(everything.join('\n')).not.toContain(password);
    expect(log).not.toMatch(/^(?:GOLDBED(?!_NODE=)|REDIS)/m);
  });

  test('a user that may not read the server’s settings is told what to do', async () => {
    await admin.client.call(
      'ACL',
      'SETUSER',
      'poor',
      'on',
      `>${password}`,
      '~goldbed:*',
      '&goldbed:*',
      '+@all',
      '-config',
    );
    const url = `redis://poor:${password}@127.0.0.1:${port}/`;
    const told = await connectRedis({ kind: 'url', url, allowUnsafe: false }, 'goldbed').catch(String);
    expect(told).toMatch(/its settings cannot be read \(NOPERM .*--allow-unsafe-redis/);
    expect(told).not.toContain(password);
    await using redis = await connectRedis({ kind: 'url', url, allowUnsafe: true }, 'goldbed');
    expect(await redis.client.ping()).toBe('PONG');
  });
});

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
}
