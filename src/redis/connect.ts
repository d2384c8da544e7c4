/** A connection to Redis, whose settings were checked: goldbed's jobs must neither be evicted nor be lost at a restart. */
import { Redis } from 'ioredis';
import { messageOf, UnavailableError } from '../protocol/errors.ts';
import { redisKeys, type RedisKeys } from '../protocol/routing.ts';

export type RedisTarget =
  | { readonly kind: 'embedded'; readonly socketPath: string }
  | {
      readonly kind: 'url';
      /** redis://, rediss://, unix:// or a socket's absolute path. */
      readonly url: string;
      /** Takes a server that may evict or does not persist. */
      readonly allowUnsafe: boolean;
    };

export interface RedisHandle extends AsyncDisposable {
  readonly client: Redis;
  readonly keys: RedisKeys;
  /** A further connection to the same server (subscribers need one). The caller ends it. */
  duplicate(): Redis;
}

/** Milliseconds until a server that does not answer counts as unreachable. */
const connectLimit = 5000;

/** @throws {UnavailableError} one line: where, and what is wrong */
export async function connectRedis(target: RedisTarget, prefix: string): Promise<RedisHandle> {
  const name = target.kind === 'embedded' ? target.socketPath : redact(target.url);
  const client = makeClient(target);
  client.on('error', () => {}); // each command hears of it by itself
  try {
    await client.connect();
    if (target.kind === 'url' && !target.allowUnsafe) await requireSafe(client, name);
  } catch (error) {
    client.disconnect();
    if (error instanceof UnavailableError) throw error;
    throw new UnavailableError(`Redis at ${name} cannot be used: ${messageOf(error)}`, { cause: error });
  }
  return {
    client,
    keys: redisKeys(prefix),
    duplicate: () => {
      const copy = client.duplicate();
      copy.on('error', () => {});
      return copy;
    },
    async [Symbol.asyncDispose]() {
      await client.quit().catch(() => client.disconnect());
    },
  };
}

/** For messages: without user and password. */
export function redact(url: string): string {
  return url.replace(/\/\/[^/@]*@/, '//');
}

function makeClient(target: RedisTarget): Redis {
  let connected = false;
  const options = {
    lazyConnect: true,
    connectTimeout: connectLimit,
    // its timer outlives the connection, and keeps a process that is done from ending (2 s by default)
    disconnectTimeout: 50,
    // BullMQ asks for it: commands wait for the server to come back
    maxRetriesPerRequest: null,
    // the first attempt tells whether there is a server at all; later ones go on for ever
    retryStrategy: (times: number) => (connected ? Math.min(times * 100, 2000) : null),
  };
  const socket = socketOf(target);
  const client = new Redis(socket ?? (target.kind === 'url' ? target.url : ''), options);
  client.once('ready', () => (connected = true));
  return client;
}

function socketOf(target: RedisTarget): string | undefined {
  if (target.kind === 'embedded') return target.socketPath;
  if (target.url.startsWith('/')) return target.url;
  return target.url.startsWith('unix://') ? target.url.slice('unix://'.length) : undefined;
}

async function requireSafe(client: Redis, name: string): Promise<void> {
  const wanted = { 'maxmemory-policy': 'noeviction', appendonly: 'yes' };
  for (const [setting, expected] of Object.entries(wanted)) {
    const found = await readSetting(client, setting, name);
    if (found === expected) continue;
    throw new UnavailableError(
      `Redis at ${name} is not safe for jobs: ${setting} is ${found}, expected ${expected} (--allow-unsafe-redis overrides)`,
    );
  }
}

async function readSetting(client: Redis, setting: string, name: string): Promise<string> {
  try {
    const answer = (await client.config('GET', setting)) as unknown;
    const values: unknown[] = Array.isArray(answer) ? answer : Object.entries(answer as object).flat();
    return typeof values[1] === 'string' ? values[1] : 'unknown';
  } catch (error) {
    const why = `its settings cannot be read (${messageOf(error)})`;
    throw new UnavailableError(`Redis at ${name}: ${why}; --allow-unsafe-redis goes on without`, { cause: error });
  }
}
