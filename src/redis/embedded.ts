/**
 * The embedded default: one server per state folder, started by the first command that needs it, shared by all that run
 * meanwhile, shut down by the last. Who uses it is written down as a file with the user's process identity, so that a
 * killed command does not count; every decision is made under one flock.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';
import type { State } from '../config/state.ts';
import { flock } from '../exec/flock.ts';
import { identityOf, isAlive, processIdentitySchema } from '../exec/process-identity.ts';
import { UnavailableError } from '../protocol/errors.ts';
import { ping } from './ping.ts';
import { startServer, type ServerPlace } from './server-process.ts';

export interface EmbeddedRedis extends AsyncDisposable {
  readonly socketPath: string;
}

/** sun_path has 108 bytes, the last one a NUL (unix(7)). */
const socketPathLimit = 107;

/** @throws {UnavailableError} no binary, cannot start, path too long */
export async function acquireEmbedded(state: Pick<State, 'redis'>, signal: AbortSignal): Promise<EmbeddedRedis> {
  const folder = state.redis;
  const place = { folder, socket: path.join(folder, 'redis.sock'), log: path.join(folder, 'redis.log') };
  if (Buffer.byteLength(place.socket) > socketPathLimit) {
    const limit = `a unix socket's path has at most ${socketPathLimit} bytes`;
    throw new UnavailableError(`the state folder's path is too long for ${place.socket}: ${limit}; set GOLDBED_STATE`);
  }
  const users = path.join(folder, 'users');
  await mkdir(users, { recursive: true, mode: 0o700 });
  const me = path.join(users, `${randomUUID()}.json`);
  const lockFile = path.join(folder, 'lock');
  await using lock = await flock(lockFile, signal);
  lock.lost.throwIfAborted();
  await writeFile(me, JSON.stringify(identityOf()));
  try {
    if (!(await ping(place.socket))) await startServer(place, signal);
  } catch (error) {
    await rm(me, { force: true });
    throw error;
  }
  let released: Promise<void> | undefined;
  return { socketPath: place.socket, [Symbol.asyncDispose]: () => (released ??= release(place, users, me, lockFile)) };
}

async function release(place: ServerPlace, users: string, me: string, lockFile: string): Promise<void> {
  await using lock = await flock(lockFile);
  lock.lost.throwIfAborted();
  await rm(me, { force: true });
  for (const name of await readdir(users)) {
    if (await isInUse(path.join(users, name))) return;
  }
  if (await ping(place.socket)) await shutDown(place);
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
  const redis = new Redis(socket, once);
  redis.on('error', () => {}); // it goes away under us, which is what we want
  try {
    await redis.connect();
    const pid = Number(/^process_id:(\d+)/m.exec(await redis.info('server'))?.[1]);
    const server = identityOf(pid);
    await redis.shutdown().catch(() => undefined);
    const limit = Date.now() + 30_000;
    while (server !== undefined && isAlive(server)) {
      if (Date.now() > limit) throw new UnavailableError(`the embedded Redis does not shut down; see ${log}`);
      await delay(5);
    }
  } finally {
    redis.disconnect();
  }
}
