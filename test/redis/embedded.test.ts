/** The embedded server: shared, shut down by the last user, found again after a kill; and settings that are refused. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { stateAt, type State } from '../../src/config/state.ts';
import { UnavailableError } from '../../src/protocol/errors.ts';
import { connectRedis, redact } from '../../src/redis/connect.ts';
import { acquireEmbedded } from '../../src/redis/embedded.ts';
import { ping } from '../../src/redis/ping.ts';
import { temporaryState } from './fixtures.ts';

const never = new AbortController().signal;
let state: State;
beforeEach(async () => {
  state = await temporaryState();
});
afterEach(() => rm(state.root, { recursive: true, force: true }));

/** A user of the server in another process; it prints the server's process id. */
async function startUser(): Promise<{ child: ChildProcess; serverPid: string }> {
  const script = fileURLToPath(new URL('use-embedded.ts', import.meta.url));
  const child = spawn(process.execPath, ['--import', 'tsx', script, state.root], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const [said] = (await once(child.stdout, 'data')) as [Buffer];
  return { child, serverPid: said.toString().trim() };
}

async function serverPid(socketPath: string): Promise<string> {
  await using redis = await connectRedis({ kind: 'embedded', socketPath }, 'test');
  return /^process_id:(\d+)/m.exec(await redis.client.info('server'))?.[1] ?? '';
}

describe('the embedded server', () => {
  test('is shared, keeps its data, and ends with its last user', async () => {
    const first = await acquireEmbedded(state, never);
    const { child, serverPid: seen } = await startUser();
    expect(seen).toBe(await serverPid(first.socketPath));
    {
      await using redis = await connectRedis({ kind: 'embedded', socketPath: first.socketPath }, 'test');
      await redis.client.set('kept', 'yes');
    }
    await first[Symbol.asyncDispose]();
    expect(await ping(first.socketPath)).toBe(true);
    child.stdin?.end();
    await once(child, 'exit');
    expect(await ping(first.socketPath)).toBe(false);
    expect(existsSync(`/proc/${seen}`)).toBe(false);

    await using again = await acquireEmbedded(state, never);
    await using redis = await connectRedis({ kind: 'embedded', socketPath: again.socketPath }, 'test');
    expect(await redis.client.get('kept')).toBe('yes');
    expect(await redis.client.config('GET', 'maxmemory-policy')).toContain('noeviction');
  });

  test('ten at once start one server', async () => {
    const all = await Promise.all(Array.from({ length: 10 }, () => acquireEmbedded(state, never)));
    const pids = await Promise.all(all.map(({ socketPath }) => serverPid(socketPath)));
    expect(new Set(pids).size).toBe(1);
    for (const one of all) await one[Symbol.asyncDispose]();
    expect(await ping(path.join(state.redis, 'redis.sock'))).toBe(false);
  });

  test('a user killed with SIGKILL does not count', async () => {
    const mine = await acquireEmbedded(state, never);
    const { child } = await startUser();
    child.kill('SIGKILL');
    await once(child, 'exit');
    await mine[Symbol.asyncDispose]();
    expect(await ping(mine.socketPath)).toBe(false);
    expect(await readdir(path.join(state.redis, 'users'))).toEqual([]);
  });

  test('a server killed with SIGKILL is replaced, and what it had acknowledged is there', async () => {
    const mine = await acquireEmbedded(state, never);
    {
      await using redis = await connectRedis({ kind: 'embedded', socketPath: mine.socketPath }, 'test');
      await redis.client.set('acknowledged', 'yes');
    }
    process.kill(Number(await serverPid(mine.socketPath)), 'SIGKILL');
    await using second = await acquireEmbedded(state, never);
    await using redis = await connectRedis({ kind: 'embedded', socketPath: second.socketPath }, 'test');
    expect(await redis.client.get('acknowledged')).toBe('yes');
    await mine[Symbol.asyncDispose]();
  });

  test('a path too long for a socket is one clear line', async () => {
    const long = stateAt(path.join(state.root, 'x'.repeat(100)));
    await expect(acquireEmbedded(long, never)).rejects.toThrow(/too long.*107 bytes; set GOLDBED_STATE/);
  });
});

describe('a configured server', () => {
  const unsafe: [string, string, RegExp][] = [
    ['maxmemory-policy', 'allkeys-lru', /maxmemory-policy is allkeys-lru, expected noeviction \(--allow-unsafe-redis/],
    ['appendonly', 'no', /appendonly is no, expected yes/],
  ];
  test.each(unsafe)('%s %s is refused, unless overridden', async (setting, value, message) => {
    await using server = await acquireEmbedded(state, never);
    {
      await using redis = await connectRedis({ kind: 'embedded', socketPath: server.socketPath }, 'test');
      await redis.client.config('SET', setting, value);
    }
    const target = { kind: 'url', url: server.socketPath, allowUnsafe: false } as const;
    await expect(connectRedis(target, 'test')).rejects.toThrow(message);
    await using accepted = await connectRedis({ ...target, allowUnsafe: true }, 'test');
    expect(await accepted.client.ping()).toBe('PONG');
  });

  test('one that is not there is named, without its password', async () => {
    const target = { kind: 'url', url: 'redis://user:hush@127.0.0.1:1/', allowUnsafe: false } as const;
    const failure = await connectRedis(target, 'test').catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(UnavailableError);
    expect(String(failure)).toMatch(/redis:\/\/127\.0\.0\.1:1\/ cannot be used/);
    expect(String(failure)).not.toContain('hush');
    expect(redact('rediss://a:b@c/')).toBe('rediss://c/');
  });
});
