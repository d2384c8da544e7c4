/**
 * The embedded default: one server per state folder, started by the first command that needs it, shared by all that run
 * meanwhile, shut down by the last. Who uses it is written down as a file with the user's process identity, so that a
 * killed command does not count; every decision is made under one flock.
 */
import { randomUUID } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';
import type { State } from '../config/state.ts';
import { flock } from '../exec/flock.ts';
import {
  identityOf,
  isAlive,
  ownIdentity,
  processIdentitySchema,
  type ProcessIdentity,
} from '../exec/process-identity.ts';
import { UnavailableError } from '../protocol/errors.ts';
import { within } from '../exec/patience.ts';
import { tooLongForSocket } from '../exec/socket-path.ts';
import { noteCleanEnd } from './mend-log.ts';
import { look } from './ping.ts';
import { binaryFolders, ensureServer, type ServerPlace } from './server-process.ts';

export interface EmbeddedRedis extends AsyncDisposable {
  readonly socketPath: string;
  /** Starts a server where the last one was killed. @throws {UnavailableError} as acquireEmbedded; the signal's reason */
  ensure(signal: AbortSignal): Promise<void>;
}

/** Milliseconds for a shutdown, a last fsync included. */
const shutDownLimit = 30_000;

/**
 * @param binaries folders in which to look for the server's binary
 * @throws {UnavailableError} no binary, cannot start, path too long; the signal's reason
 */
export async function acquireEmbedded(
  state: Pick<State, 'redis'>,
  signal: AbortSignal,
  binaries: readonly string[] = binaryFolders,
): Promise<EmbeddedRedis> {
  const place = placeIn(state.redis);
  const tooLong = tooLongForSocket(place.socket);
  if (tooLong !== undefined) throw new UnavailableError(tooLong);
  const users = path.join(place.folder, 'users');
  await mkdir(users, { recursive: true, mode: 0o700 });
  await makePrivate(place.folder);
  const me = path.join(users, `${randomUUID()}.json`);
  const lockFile = path.join(place.folder, 'lock');
  await using _ = await flock(lockFile, signal);
  await writeFile(me, JSON.stringify(ownIdentity()));
  try {
    await ensureServer(place, signal, binaries);
  } catch (error) {
    await rm(me, { force: true });
    throw error;
  }
  let released: Promise<void> | undefined;
  return {
    socketPath: place.socket,
    async ensure(stop) {
      await using lock = await flock(lockFile, stop);
      void lock;
      await ensureServer(place, stop, binaries);
    },
    [Symbol.asyncDispose]: () => (released ??= release(place, users, me, lockFile)),
  };
}

function placeIn(folder: string): ServerPlace {
  const at = (name: string): string => path.join(folder, name);
  return { folder, socket: at('redis.sock'), log: at('redis.log'), alive: at('alive') };
}

/** Who may enter the folder may use the socket, whatever the socket's own mode was while it was being made. */
async function makePrivate(folder: string): Promise<void> {
  if (((await stat(folder)).mode & 0o077) !== 0) await chmod(folder, 0o700);
}

async function release(place: ServerPlace, users: string, me: string, lockFile: string): Promise<void> {
  await using _ = await flock(lockFile);
  await rm(me, { force: true });
  for (const name of await readdir(users)) {
    if (await isInUse(path.join(users, name))) return;
  }
  if ((await look(place.socket)) === 'gone') return;
  await shutDown(place);
  await noteCleanEnd(place.folder);
}

/** Removes the files of users that are dead. */
async function isInUse(file: string): Promise<boolean> {
  const text = await readFile(file, 'utf8').catch(() => '');
  try {
    if (isAlive(processIdentitySchema.parse(JSON.parse(text)))) return true;
  } catch {
    // half written by a process that was killed: as good as dead
  }
  await rm(file, { force: true });
  return false;
}

/** Returns when the process is gone: its files are then complete, and its socket free. */
async function shutDown({ socket, log }: ServerPlace): Promise<void> {
  const once = { lazyConnect: true, maxRetriesPerRequest: 0, retryStrategy: () => null, disconnectTimeout: 50 };
  const redis = new Redis({ path: socket, ...once });
  redis.on('error', () => {}); // it goes away under us, which is what we want
  const late = (): Error => new UnavailableError(`the embedded Redis does not shut down; see ${log}`);
  const limit = performance.now() + shutDownLimit;
  try {
    const server = await within(askToEnd(redis), shutDownLimit, late);
    while (server !== undefined && isAlive(server)) {
      if (performance.now() > limit) throw late();
      await delay(5);
    }
  } finally {
    redis.disconnect();
  }
}

async function askToEnd(redis: Redis): Promise<ProcessIdentity | undefined> {
  await redis.connect();
  const pid = Number(/^process_id:(\d+)/m.exec(await redis.info('server'))?.[1]);
  const server = identityOf(pid);
  await redis.shutdown().catch(() => undefined);
  return server;
}
