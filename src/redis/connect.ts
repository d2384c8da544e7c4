/** A connection to Redis, whose settings were checked: goldbed's jobs must neither be evicted nor be lost at a restart. */
import { readFileSync } from 'node:fs';
import type { ConnectionOptions } from 'node:tls';
import { Redis } from 'ioredis';
import { ConfigError } from '../config/config-error.ts';
import { messageOf, UnavailableError } from '../protocol/errors.ts';
import { redisKeys, type RedisKeys } from '../protocol/routing.ts';
import { within } from '../exec/patience.ts';

export type RedisTarget =
  | { readonly kind: 'embedded'; readonly socketPath: string }
  | {
      readonly kind: 'url';
      /** redis://, rediss://, unix:// or a socket's absolute path. */
      readonly url: string;
      /** Takes a server that may evict or does not persist. */
      readonly allowUnsafe: boolean;
      /** For rediss://. Paths of PEM files; without `ca` the server's certificate must be known to Node itself. */
      readonly tls?: RedisTls;
    };

export interface RedisTls {
  readonly ca?: string;
  /** The client's own, where the server asks for one. */
  readonly cert?: string;
  readonly key?: string;
}

export interface RedisHandle extends AsyncDisposable {
  readonly client: Redis;
  readonly keys: RedisKeys;
  /** What it was made of: for whoever needs a connection in another thread. */
  readonly target: RedisTarget;
  readonly prefix: string;
  /** Whoever has it is to end at once when it fires: it then waits for no server that refuses (persist.ts). */
  readonly hurry?: AbortSignal;
  /** A further connection to the same server (subscribers need one). The caller ends it. */
  duplicate(): Redis;
}

/** Milliseconds until a server that does not answer counts as unreachable; ours was asked before, and may be busy. */
const answerLimit = { url: 5000, embedded: 60_000 } as const;

/** The longest pause between two attempts to connect anew, in milliseconds. */
const longestPause = 2000;

/** Milliseconds for replies that are still to come, when a connection is let go. */
const quitLimit = 2000;

/**
 * @param limit milliseconds for connecting and for the check of the settings together
 * @throws {ConfigError} the url is none
 * @throws {UnavailableError} one line: where, and what is wrong
 */
export async function connectRedis(
  target: RedisTarget,
  prefix: string,
  limit: number = answerLimit[target.kind],
): Promise<RedisHandle> {
  const name = target.kind === 'embedded' ? target.socketPath : redact(target.url);
  const client = makeClient(target, name, limit);
  let heard: unknown; // when connecting fails, ioredis tells why by this event only: WRONGPASS, a certificate
  client.on('error', (error) => (heard = error));
  try {
    // connectTimeout ends with the TCP handshake: it does not see a server that then says nothing
    await within(open(client, target, name), limit, () => new Error(`no answer within ${limit / 1000} s`));
  } catch (error) {
    client.disconnect();
    if (error instanceof UnavailableError) throw error;
    throw new UnavailableError(`Redis at ${name} cannot be used: ${messageOf(heard ?? error)}`, { cause: error });
  }
  return {
    client,
    keys: redisKeys(prefix),
    target,
    prefix,
    duplicate: () => {
      const copy = client.duplicate();
      copy.on('error', () => {});
      return copy;
    },
    async [Symbol.asyncDispose]() {
      // a server that is away must not keep us: QUIT waits for every reply that is still to come
      await within(client.quit(), quitLimit, () => new Error('late')).catch(() => client.disconnect());
    },
  };
}

/**
 * For messages: without user, password and query (which may hold a password). A password that should have been escaped
 * may hold / # @ or ?, so the user's part ends at the last @; where a ? makes that doubtful nothing is shown.
 */
export function redact(url: string): string {
  const [scheme = ''] = /^[a-z]+:\/\//i.exec(url) ?? [];
  const rest = url.slice(scheme.length);
  const at = rest.lastIndexOf('@');
  const query = rest.indexOf('?');
  if (query !== -1 && query < at) return `${scheme}…`;
  return scheme + rest.slice(at + 1).replace(/\?.*$/s, '');
}

function makeClient(target: RedisTarget, name: string, limit: number): Redis {
  let connected = false;
  const options = {
    lazyConnect: true,
    connectTimeout: limit,
    // packets that are dropped break no connection: without this, TCP alone would notice, after many minutes. Counted while
    // a reply is due only; what was under way is sent again. A local socket drops nothing
    ...(target.kind === 'url' ? { socketTimeout: limit } : {}),
    // its timer outlives the connection, and keeps a process that is done from ending (2 s by default)
    disconnectTimeout: 50,
    // BullMQ asks for it: commands wait for the server to come back
    maxRetriesPerRequest: null,
    // a primary that was demoted keeps its connections, and refuses for ever: behind its name there may be another one now
    reconnectOnError: (error: Error) => error.message.startsWith('READONLY'),
    // the first attempt tells whether there is a server at all; later ones go on for ever
    retryStrategy: (times: number) => (connected ? Math.min(times * 100, longestPause) : null),
  };
  // a socket's path is an option of its own: within a url a ? would begin a query
  const client =
    target.kind === 'embedded'
      ? new Redis({ path: target.socketPath, ...options })
      : new Redis(addressOf(target.url, name), { ...options, ...tlsOptions(target) });
  client.once('ready', () => (connected = true));
  return client;
}

/** @throws {ConfigError} a file that cannot be read, or TLS for an address that has none */
function tlsOptions({ url, tls }: Extract<RedisTarget, { kind: 'url' }>): { tls?: ConnectionOptions } {
  const files = Object.entries(tls ?? {});
  if (files.length === 0) return {};
  if (!/^rediss:/i.test(url)) throw new ConfigError('redis.tls', 'redis.tls: expected a rediss:// address beside it');
  return { tls: Object.fromEntries(files.map(([name, file]) => [name, readPem(`redis.tls.${name}`, file as string)])) };
}

function readPem(key: string, file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new ConfigError(key, `${key}: ${messageOf(error)}`);
  }
}

/** What ioredis takes: it would make something of any string. @throws {ConfigError} */
function addressOf(url: string, name: string): string {
  const [, socket] = /^(?:unix:\/\/)?(\/.+)$/s.exec(url) ?? [];
  if (socket !== undefined) return socket;
  if (/^rediss?:\/\//i.test(url) && URL.canParse(url)) return url;
  const expected = 'expected redis://HOST:PORT, rediss://HOST:PORT, unix:///SOCKET or the socket’s absolute path';
  throw new ConfigError('redis.url', `Redis at "${name}": ${expected}`);
}

async function open(client: Redis, target: RedisTarget, name: string): Promise<void> {
  await client.connect();
  if (target.kind === 'url' && !target.allowUnsafe) await requireSafe(client, name);
}

const override = '--allow-unsafe-redis or GOLDBED_ALLOW_UNSAFE_REDIS=1';

async function requireSafe(client: Redis, name: string): Promise<void> {
  const wanted = { 'maxmemory-policy': 'noeviction', appendonly: 'yes' };
  for (const [setting, expected] of Object.entries(wanted)) {
    const found = await readSetting(client, setting, name);
    if (found === expected) continue;
    throw new UnavailableError(
      `Redis at ${name} is not safe for jobs: ${setting} is ${found}, expected ${expected} (${override} overrides)`,
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
    throw new UnavailableError(`Redis at ${name}: ${why}; ${override} goes on without`, { cause: error });
  }
}
