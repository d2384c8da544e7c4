/** Connecting to a server: which are refused, what is said of it, and that nothing waits for ever. */
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ConfigError } from '../../src/config/config-error.ts';
import type { State } from '../../src/config/state.ts';
import { UnavailableError } from '../../src/protocol/errors.ts';
import { connectRedis } from '../../src/redis/connect.ts';
import { durabilityWarning } from '../../src/redis/durability.ts';
import { acquireEmbedded } from '../../src/redis/embedded.ts';
import { temporaryState } from './fixtures.ts';

const never = new AbortController().signal;
let state: State;
beforeEach(async () => {
  state = await temporaryState();
});
afterEach(() => rm(state.root, { recursive: true, force: true }));

describe('a configured server', () => {
  const unsafe: [string, string, RegExp][] = [
    [
      'maxmemory-policy',
      'allkeys-lru',
      /maxmemory-policy is allkeys-lru, expected noeviction \(--allow-unsafe-redis or GOLDBED_ALLOW_UNSAFE_REDIS=1 overrides\)/,
    ],
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

  test('one that may lose what it acknowledged is taken, and said to', async () => {
    await using server = await acquireEmbedded(state, never);
    await using redis = await connectRedis({ kind: 'embedded', socketPath: server.socketPath }, 'test');
    expect(await durabilityWarning(redis)).toBeUndefined();
    await redis.client.config('SET', 'appendfsync', 'everysec');
    const target = { kind: 'url', url: server.socketPath, allowUnsafe: false } as const;
    await using accepted = await connectRedis(target, 'test');
    expect(await durabilityWarning(accepted)).toMatch(
      /^Redis syncs its log every second \(appendfsync everysec\): a power/,
    );
    await redis.client.config('SET', 'appendonly', 'no');
    expect(await durabilityWarning(redis)).toMatch(/^Redis does not persist/);
    await redis.client.acl('SETUSER', 'default', '-config');
    expect(await durabilityWarning(redis)).toMatch(/^the settings of Redis cannot be read/);
  });

  test('one that is not there is named, without its password', async () => {
    const target = { kind: 'url', url: 'redis://user:hush@127.0.0.1:1/', allowUnsafe: false } as const;
    const failure = await connectRedis(target, 'test').catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(UnavailableError);
    expect(String(failure)).toMatch(/redis:\/\/127\.0\.0\.1:1\/ cannot be used/);
    expect(String(failure)).not.toContain('hush');
  });

  test('one that takes the connection and says nothing is given up', async () => {
    const silent = createServer();
    silent.listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const url = `redis://:hush@127.0.0.1:${(silent.address() as AddressInfo).port}/`;
    const failure = await connectRedis({ kind: 'url', url, allowUnsafe: false }, 'test', 300).catch(String);
    expect(failure).toMatch(
      /UnavailableError: Redis at redis:\/\/127\.0\.0\.1:\d+\/ cannot be used: no answer within 0\.3 s/,
    );
    silent.close();
  });

  const wrong = ['', 'localhost:6379', 'http://localhost/', 'redis://localhost:99999', 'redis://:hush@[/'];
  test.each(wrong)('what is no address of a Redis is told so: "%s"', async (url) => {
    const failure = await connectRedis({ kind: 'url', url, allowUnsafe: false }, 'test').catch(
      (error: unknown) => error,
    );
    expect(failure).toBeInstanceOf(ConfigError);
    expect(String(failure)).toMatch(/expected redis:\/\/HOST/);
    expect(String(failure)).not.toContain('hush');
  });

  test('a user who may not read the settings is told what to do', async () => {
    await using server = await acquireEmbedded(state, never);
    {
      await using redis = await connectRedis({ kind: 'embedded', socketPath: server.socketPath }, 'test');
      await redis.client.acl('SETUSER', 'limited', 'on', '>hush', '~*', '&*', '+@all', '-config');
    }
    const url = `unix://${server.socketPath}?username=limited&password=hush`;
    const failure = await connectRedis({ kind: 'url', url, allowUnsafe: false }, 'test').catch(String);
    expect(failure).toMatch(/UnavailableError: .*settings cannot be read.*--allow-unsafe-redis/);
    expect(failure).not.toContain('hush');
    await using accepted = await connectRedis({ kind: 'url', url, allowUnsafe: true }, 'test');
    expect(await accepted.client.ping()).toBe('PONG');
    const refused = await connectRedis(
      { kind: 'url', url: url.replace('hush', 'wrong'), allowUnsafe: true },
      'test',
    ).catch(String);
    expect(refused).toMatch(/WRONGPASS/);
  });

  test('connections speak RESP3: the queue tests are the conformance test of bullmq with it', async () => {
    await using server = await acquireEmbedded(state, never);
    await using redis = await connectRedis({ kind: 'embedded', socketPath: server.socketPath }, 'test');
    expect(await redis.client.client('INFO')).toMatch(/\bresp=3\b/);
  });

  test('a server that was demoted is left: behind its name there may be another one', async () => {
    await using server = await acquireEmbedded(state, never);
    await using redis = await connectRedis({ kind: 'embedded', socketPath: server.socketPath }, 'test');
    const before = await redis.client.client('ID');
    await redis.client.replicaof('127.0.0.1', 1);
    const again = once(redis.client, 'ready');
    await expect(redis.client.set('a', '1')).rejects.toThrow(/^READONLY/);
    await again;
    expect(await redis.client.client('ID')).not.toBe(before);
    await redis.client.replicaof('NO', 'ONE');
    expect(await redis.client.set('a', '1')).toBe('OK');
  });

  test('is let go in time, though it does not answer', async () => {
    await using server = await acquireEmbedded(state, never);
    const redis = await connectRedis({ kind: 'embedded', socketPath: server.socketPath }, 'test');
    const pid = Number(/^process_id:(\d+)/m.exec(await redis.client.info('server'))?.[1]);
    process.kill(pid, 'SIGSTOP');
    try {
      const over = once(redis.client, 'end');
      await redis[Symbol.asyncDispose]();
      await over;
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await redis[Symbol.asyncDispose](); // once more does no harm
  });
});
