/** The Redis or Valkey server as a child of ours: which binary, with which settings, and when it is ready. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isExecutable } from '../exec/executable.ts';
import { UnavailableError } from '../protocol/errors.ts';
import { cleanEnvironment } from '../exec/run.ts';
import { ping } from './ping.ts';

export interface ServerPlace {
  /** A 0700 folder. */
  readonly folder: string;
  readonly socket: string;
  readonly log: string;
}

/** Milliseconds for starting, loading a large append-only file included. */
const startLimit = 120_000;

/** Starts it in a session of its own, so that ^C at the terminal of the command that needed it first does not end it. */
export async function startServer(place: ServerPlace, signal: AbortSignal): Promise<void> {
  const { program, name } = findBinary();
  const child = spawn(program, settings(place), {
    argv0: name,
    cwd: place.folder,
    env: { ...cleanEnvironment },
    stdio: 'ignore',
    detached: true,
  });
  let ended: string | undefined;
  child.once('error', (error) => (ended = error.message));
  child.once('exit', (code, killedBy) => (ended = `it ended with ${killedBy ?? code}`));
  child.unref();
  const limit = Date.now() + startLimit;
  while (!(await ping(place.socket))) {
    signal.throwIfAborted();
    if (ended !== undefined) throw new UnavailableError(`the embedded Redis did not start: ${ended}; see ${place.log}`);
    if (Date.now() > limit) throw new UnavailableError(`the embedded Redis does not answer; see ${place.log}`);
    await delay(5);
  }
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

/**
 * Debian 12's redis-tools ships the server only as redis-check-rdb: one binary that becomes what it is called. That way
 * there is a server without a system service.
 */
function findBinary(): { program: string; name: string } {
  for (const folder of ['/usr/bin', '/usr/local/bin']) {
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
    'no redis-server or valkey-server here: apt-get install redis-tools (or set GOLDBED_REDIS_URL)',
  );
}
