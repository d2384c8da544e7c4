/**
 * The Redis or Valkey server as a child of ours: which binary, with which settings, when it is ready; and never two of
 * them on one folder: each would have a truth of its own, so that a job is claimed twice and a fence is given twice.
 *
 * The server itself holds a flock(2) on `place.alive`: the file is open in it (descriptor 3), so the kernel frees the lock
 * when the process is gone, and not before. A socket that does not answer proves nothing: the server may be busy,
 * stopped, loading, or started by a command that was killed before it was ready.
 */
import { spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isExecutable } from '../exec/executable.ts';
import { cleanEnvironment, ended, start } from '../exec/run.ts';
import { UnavailableError } from '../protocol/errors.ts';
import { mendLog } from './mend-log.ts';
import { look } from './ping.ts';

export interface ServerPlace {
  /** A 0700 folder. */
  readonly folder: string;
  readonly socket: string;
  readonly log: string;
  /** Locked by the server for as long as it lives. */
  readonly alive: string;
}

export const binaryFolders: readonly string[] = ['/usr/bin', '/usr/local/bin'];

/** Milliseconds for starting, loading a large append-only file included. */
const startLimit = 120_000;

/**
 * Returns when a server answers: one that is there already, else one that it starts.
 * @param folders where to look for the binary
 * @throws {UnavailableError} no binary, does not start, does not answer; the signal's reason
 */
export async function ensureServer(
  place: ServerPlace,
  signal: AbortSignal,
  folders: readonly string[] = binaryFolders,
): Promise<void> {
  const limit = performance.now() + startLimit;
  let started: StartedServer | undefined;
  try {
    for (;;) {
      signal.throwIfAborted();
      const answer = await look(place.socket);
      if (answer === 'ready') return;
      const end = started?.ended();
      if (end !== undefined) throw new UnavailableError(`the embedded Redis did not start: ${end}; see ${place.log}`);
      if (performance.now() > limit) throw new UnavailableError(`the embedded Redis does not answer; see ${place.log}`);
      if (answer === 'gone') started ??= await startUnlessAlive(place, folders);
      await delay(5);
    }
  } catch (error) {
    // nobody would ever shut it down; one that is merely slow is left to load on, for the next command
    if (signal.aborted) started?.terminate();
    throw error;
  }
}

interface StartedServer {
  /** How it ended, in words; undefined while it runs. */
  ended(): string | undefined;
  terminate(): void;
}

/** Undefined when a server lives already. */
async function startUnlessAlive(place: ServerPlace, folders: readonly string[]): Promise<StartedServer | undefined> {
  const binary = findBinary(folders);
  const alive = await open(place.alive, 'a', 0o600);
  try {
    if (!(await lockOpenFile(alive.fd))) return undefined;
    await mendLog(place.folder, binary.program);
    return startServer(place, binary, alive.fd);
  } finally {
    await alive.close(); // the server has its own descriptor of the same open file, and so the lock
  }
}

/** The lock belongs to the open file, not to the process that asked for it (flock(2)): it outlives the helper. */
async function lockOpenFile(fd: number): Promise<boolean> {
  const argv = ['/usr/bin/flock', '--nonblock', '--conflict-exit-code', '75', '3'];
  const code = await ended(start(argv, ['ignore', 'ignore', 'ignore', fd]));
  if (code !== 0 && code !== 75) throw new UnavailableError(`cannot lock the embedded Redis: flock ended with ${code}`);
  return code === 0;
}

/** In a session of its own, so that ^C at the terminal of the command that needed it first does not end it. */
function startServer(place: ServerPlace, { program, name }: Binary, alive: number): StartedServer {
  const child = spawn(program, settings(place), {
    argv0: name,
    cwd: place.folder,
    env: { ...cleanEnvironment },
    stdio: ['ignore', 'ignore', 'ignore', alive],
    detached: true,
  });
  let end: string | undefined;
  child.once('error', (error) => (end = error.message));
  child.once('exit', (code, killedBy) => (end = `it ended with ${killedBy ?? code}`));
  child.unref();
  return { ended: () => end, terminate: () => void child.kill('SIGTERM') };
}

function settings({ folder, socket, log }: ServerPlace): string[] {
  const pairs = {
    port: '0',
    unixsocket: socket,
    unixsocketperm: '700',
    dir: folder,
    logfile: log,
    appendonly: 'yes',
    appendfsync: 'always',
    save: '',
    maxmemory: '0',
    'maxmemory-policy': 'noeviction',
    daemonize: 'no',
  };
  return Object.entries(pairs).flatMap(([key, value]) => [`--${key}`, value]);
}

interface Binary {
  readonly program: string;
  readonly name: string;
}

/**
 * Debian 12's redis-tools ships the server only as redis-check-rdb: one binary that becomes what it is called. That way
 * there is a server without a system service.
 */
function findBinary(folders: readonly string[]): Binary {
  for (const folder of folders) {
    for (const [file, name] of [
      ['valkey-server', 'valkey-server'],
      ['redis-server', 'redis-server'],
      ['redis-check-rdb', 'redis-server'],
    ] as const) {
      const program = path.join(folder, file);
      if (isExecutable(program)) return { program, name };
    }
  }
  throw new UnavailableError(
    'no redis-server or valkey-server here: apt-get install redis-tools (Debian 12) or valkey-server, or set GOLDBED_REDIS_URL',
  );
}
