/** The embedded server: shared, shut down by the last user, found again after a kill, and never two on one folder. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openRedis } from '../../src/cli/context.ts';
import { loadSettings } from '../../src/config/load.ts';
import { stateAt, type State } from '../../src/config/state.ts';
import { UnavailableError } from '../../src/protocol/errors.ts';
import { connectRedis } from '../../src/redis/connect.ts';
import { acquireEmbedded } from '../../src/redis/embedded.ts';
import { persist } from '../../src/redis/persist.ts';
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

/** Process ids of all servers on this state folder, whether or not the socket still leads to them. */
function serversOf({ redis }: State): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      // the server replaces its arguments by a title that names the socket
      return /redis|valkey/.test(readlinkSync(`/proc/${pid}/exe`)) && readlinkSync(`/proc/${pid}/cwd`) === redis;
    } catch {
      return false; // not a process, or gone
    }
  });
}

/** Looks at each turn of the event loop; the test's own time limit ends it. */
async function until<T>(look: () => T | undefined): Promise<T> {
  for (;;) {
    const seen = look();
    if (seen !== undefined) return seen;
    await setImmediate();
  }
}

test('a server that is killed is started again by who uses it, and is gone with the last of them', async () => {
  const { root } = state;
  const context = { settings: loadSettings({ XDG_CONFIG_HOME: root, GOLDBED_STATE: root }, 0), state };
  {
    await using redis = await openRedis(context, never);
    const pid = /^process_id:(\d+)/m.exec(await redis.client.info('server'))?.[1];
    process.kill(Number(pid), 'SIGKILL');
    await once(redis.client, 'close');
    const again = /^process_id:(\d+)/m.exec(await persist(redis, () => redis.client.info('server')))?.[1];
    expect(serversOf(state)).toEqual([again]);
    expect(again).not.toBe(pid);
  }
  expect(serversOf(state)).toEqual([]);
});

/** Two keys, written and closed. @returns the append-only file that holds them */
async function writtenLog(): Promise<string> {
  {
    await using mine = await acquireEmbedded(state, never);
    await using redis = await connectRedis({ kind: 'embedded', socketPath: mine.socketPath }, 'test');
    await redis.client.set('one', '1');
    await redis.client.set('two', '2');
  }
  const folder = path.join(state.redis, 'appendonlydir');
  const name = (await readdir(folder)).find((file) => file.endsWith('.incr.aof'));
  return path.join(folder, name ?? '');
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

  test('a server that is busy is waited for: never a second one on the same files', async () => {
    await using mine = await acquireEmbedded(state, never);
    const pid = await serverPid(mine.socketPath);
    process.kill(Number(pid), 'SIGSTOP');
    try {
      await expect(acquireEmbedded(state, AbortSignal.timeout(3000))).rejects.toThrow(/timeout/);
      expect(serversOf(state)).toEqual([pid]);
    } finally {
      process.kill(Number(pid), 'SIGCONT');
    }
    await using other = await acquireEmbedded(state, never);
    expect(await serverPid(other.socketPath)).toBe(pid);
  });

  test('a start that is given up leaves no server behind', async () => {
    // stopped as soon as it is there, so that it is certainly not ready when we give up
    const stop = new AbortController();
    const failed = acquireEmbedded(state, stop.signal).catch(String);
    const [pid] = await until(() => (serversOf(state).length > 0 ? serversOf(state) : undefined));
    process.kill(Number(pid), 'SIGSTOP');
    stop.abort(new Error('given up'));
    expect(await failed).toBe('Error: given up');
    process.kill(Number(pid), 'SIGCONT');
    await until(() => (serversOf(state).length === 0 ? true : undefined));
    expect(await readdir(path.join(state.redis, 'users'))).toEqual([]);
    await using after = await acquireEmbedded(state, never);
    expect(await ping(after.socketPath)).toBe(true);
  });

  test('a file cut short by a power cut is taken up to where it is whole', async () => {
    const file = await writtenLog();
    await truncate(file, (await stat(file)).size - 3);
    await using again = await acquireEmbedded(state, never);
    await using redis = await connectRedis({ kind: 'embedded', socketPath: again.socketPath }, 'test');
    expect(await redis.client.mget('one', 'two')).toEqual(['1', null]);
  });

  test('a file cut short within a transaction: all of it is gone, and nothing of it comes back at a later start', async () => {
    const kill = async (socketPath: string): Promise<void> => {
      const pid = Number(await serverPid(socketPath));
      process.kill(pid, 'SIGKILL');
      while (serversOf(state).length > 0) await setImmediate();
    };
    const written = async (socketPath: string): Promise<string[]> => {
      await using redis = await connectRedis({ kind: 'embedded', socketPath }, 'test');
      return (await redis.client.keys('*')).toSorted();
    };
    const first = await acquireEmbedded(state, never);
    {
      await using redis = await connectRedis({ kind: 'embedded', socketPath: first.socketPath }, 'test');
      await redis.client.set('before', '1');
      await redis.client.eval("for i = 1, 9 do redis.call('SET', 'half' .. i, i) end", 0);
    }
    await kill(first.socketPath);
    const folder = path.join(state.redis, 'appendonlydir');
    const [log = ''] = (await readdir(folder)).filter((name) => name.endsWith('.incr.aof'));
    const file = path.join(folder, log);
    await truncate(file, (await stat(file)).size - 100);
    const second = await acquireEmbedded(state, never);
    expect(await written(second.socketPath)).toEqual(['before']);
    {
      await using redis = await connectRedis({ kind: 'embedded', socketPath: second.socketPath }, 'test');
      await redis.client.multi().set('after1', '1').set('after2', '1').exec();
    }
    await kill(second.socketPath);
    await using third = await acquireEmbedded(state, never);
    expect(await written(third.socketPath)).toEqual(['after1', 'after2', 'before']);
    await first[Symbol.asyncDispose]();
    await second[Symbol.asyncDispose]();
  });

  test('a file damaged in its middle: the line names the server’s log', async () => {
    const file = await writtenLog();
    await writeFile(file, (await readFile(file, 'latin1')).replace('$3\r\none', '$x\r\none'), 'latin1');
    await expect(acquireEmbedded(state, never)).rejects.toThrow(/did not start.*redis\/redis\.log/);
    await expect(acquireEmbedded(state, never)).rejects.toBeInstanceOf(UnavailableError);
    expect(await readdir(path.join(state.redis, 'users'))).toEqual([]);
  });

  test('its folder is private, also one that was there before', async () => {
    await mkdir(state.redis, { mode: 0o755 });
    await using _ = await acquireEmbedded(state, never);
    expect((await stat(state.redis)).mode & 0o777).toBe(0o700);
  });

  test('no binary: one line with the command to install it', async () => {
    await expect(acquireEmbedded(state, never, [])).rejects.toThrow(
      /^no redis-server or valkey-server here: apt-get install redis-tools \(Debian 12\) or valkey-server/,
    );
  });

  test('a path too long for a socket is one clear line', async () => {
    const long = stateAt(path.join(state.root, 'x'.repeat(100)));
    await expect(acquireEmbedded(long, never)).rejects.toThrow(/too long.*107 bytes; set GOLDBED_STATE/);
  });
});
