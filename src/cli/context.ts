/** What every command starts from: settings, the state folder and, where needed, a Redis. */
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { loadSettings, type Settings } from '../config/load.ts';
import { stateAt, type State } from '../config/state.ts';
import { keepSignsIn } from '../exec/sign-of-life.ts';
import { acquireEmbedded, type EmbeddedRedis } from '../redis/embedded.ts';
import { connectRedis, type RedisHandle } from '../redis/connect.ts';
import { UnavailableError, UsageError, messageOf } from '../protocol/errors.ts';

export interface Context {
  readonly settings: Settings;
  readonly state: State;
}

/** Flags that every command knows. */
export interface GlobalFlags {
  readonly state?: string;
  readonly redisUrl?: string;
  readonly allowUnsafeRedis?: boolean;
}

/** @throws {ConfigError|UsageError} */
export function makeContext(flags: GlobalFlags): Context {
  const loaded = loadSettings(process.env, process.getuid?.() ?? 0);
  const settings: Settings = {
    ...loaded,
    state: path.resolve(flags.state ?? loaded.state),
    redis: {
      ...loaded.redis,
      url: flags.redisUrl ?? loaded.redis.url,
      allowUnsafe: flags.allowUnsafeRedis ?? loaded.redis.allowUnsafe,
    },
  };
  const state = stateAt(settings.state);
  try {
    mkdirSync(state.root, { recursive: true, mode: 0o755 });
  } catch (error) {
    throw new UsageError(state.root, `cannot make the state folder: ${messageOf(error)}; set GOLDBED_STATE`);
  }
  keepSignsIn(state.processes);
  return { settings, state };
}

/** The configured Redis, else the embedded one. @throws {UnavailableError} */
export async function openRedis({ settings, state }: Context, signal: AbortSignal): Promise<RedisHandle> {
  const { url, allowUnsafe, prefix, tls } = settings.redis;
  if (url !== undefined) return connectRedis({ kind: 'url', url, allowUnsafe, tls }, prefix);
  const embedded = await acquireEmbedded(state, signal);
  try {
    const handle = await connectRedis({ kind: 'embedded', socketPath: embedded.socketPath }, prefix);
    const revival = keepAlive(embedded, handle);
    return {
      ...handle,
      async [Symbol.asyncDispose]() {
        revival[Symbol.dispose]();
        await handle[Symbol.asyncDispose]();
        await embedded[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    await embedded[Symbol.asyncDispose]();
    throw error instanceof UnavailableError ? error : new UnavailableError(messageOf(error), { cause: error });
  }
}

/** Nobody else looks after the embedded server: a lone worker would wait for one that was killed until the next command. */
function keepAlive(embedded: EmbeddedRedis, { client }: RedisHandle): Disposable {
  const stop = new AbortController();
  let reviving: Promise<void> | undefined;
  const revive = (): void => {
    reviving ??= embedded
      .ensure(stop.signal)
      .catch(() => {}) // tried again when the client's next attempt has failed
      .finally(() => (reviving = undefined));
  };
  client.on('close', revive);
  return {
    [Symbol.dispose]() {
      client.off('close', revive);
      stop.abort(new Error('closed'));
    },
  };
}
