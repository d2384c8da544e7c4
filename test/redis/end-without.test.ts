/** A worker that is to end while Redis is away, frozen or refusing. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { enqueue } from '../../src/producer/enqueue.ts';
import { connectRedis, type RedisHandle } from '../../src/redis/connect.ts';
import { endWithout } from '../../src/redis/end-without.ts';
import { Claims } from '../../src/worker/claims.ts';
import { coordinate } from '../../src/worker/coordinator.ts';
import { announce } from '../../src/worker/presence.ts';
import { startBlackholeProxy, type BlackholeProxy } from './blackhole-proxy.ts';
import { buildKey, buildRequest, presenceOf } from './fixtures.ts';
import { begin, claim, claims, cleanUp, journal, server } from './world.ts';

let proxy: BlackholeProxy;
let far: RedisHandle;

beforeEach(async () => {
  await begin();
  proxy = await startBlackholeProxy(server.socketPath);
  far = await connectRedis({ kind: 'embedded', socketPath: proxy.socketPath }, 'test');
});
afterEach(async () => {
  for (const part of [far, proxy]) await part[Symbol.asyncDispose]();
  await cleanUp();
});

const times = { limit: 100, every: 10 };

describe('once it is to end at once', () => {
  test('a server that does not answer is given up, and the claim is in the journal', async () => {
    const hurry = new AbortController();
    using ending = endWithout(far, hurry.signal, times);
    void ending;
    await using away = new Claims(far, journal);
    await enqueue(server.redis, buildRequest('held'), 'amd64');
    const held = await claim(away);
    proxy.drop();
    const back = held.giveBack();
    hurry.abort();
    await expect(back).rejects.toThrow(/Connection is closed/);
    expect(await journal.read()).toMatchObject([{ key: buildKey, token: held.token }]);
    expect(await claims.giveBackToken(buildKey, held.token)).toEqual([held.runId]);
  });

  test('nor is one waited for that is not there', async () => {
    const hurry = new AbortController();
    using ending = endWithout(far, hurry.signal, times);
    void ending;
    const retrying = once(far.client, 'reconnecting');
    await proxy[Symbol.asyncDispose]();
    await retrying;
    const asked = far.client.get('x');
    hurry.abort();
    await expect(asked).rejects.toThrow(/Connection is closed/);
  });

  test('one that refuses is not asked for ever', async () => {
    const hurry = new AbortController();
    await using hasty = new Claims({ ...server.redis, hurry: hurry.signal }, journal);
    await enqueue(server.redis, buildRequest('refused'), 'amd64');
    const held = await claim(hasty);
    await server.redis.client.replicaof('127.0.0.1', 1);
    const back = held.giveBack();
    hurry.abort();
    await expect(back).rejects.toThrow(/READONLY/);
    await server.redis.client.replicaof('NO', 'ONE');
  });
});

test('neither its office nor its heartbeat keeps it', async () => {
  const presence = await announce(far.client, far.keys, () => presenceOf('bay1', journal.incarnation, []));
  const coordinator = coordinate({ redis: far, incarnation: journal.incarnation, claims, log: () => {} });
  proxy.drop();
  await Promise.all([coordinator, presence].map((part) => part[Symbol.asyncDispose]()));
});

test('`goldbed worker` that has nothing to do ends at SIGTERM, though the server is frozen', async () => {
  const worker = await startWorker();
  const pid = Number(/^process_id:(\d+)/m.exec(await server.redis.client.info('server'))?.[1]);
  process.kill(pid, 'SIGSTOP');
  try {
    worker.kill('SIGTERM');
    expect(await once(worker, 'exit')).toEqual([0, null]);
  } finally {
    process.kill(pid, 'SIGCONT');
  }
});

/** From its source, on a state folder and a server of the test's. */
async function startWorker(): Promise<ChildProcess> {
  const program = fileURLToPath(new URL('../../src/cli/goldbed.ts', import.meta.url));
  const env = { ...process.env, GOLDBED_STATE: server.state.root, GOLDBED_REDIS_URL: server.socketPath };
  const child = spawn(process.execPath, ['--import', 'tsx', program, 'worker'], {
    env,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const lines = createInterface({ input: child.stderr });
  for await (const line of lines) if (line.startsWith('worker on ')) break;
  child.stderr.resume();
  return child;
}
