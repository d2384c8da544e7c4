/** Starts and stops the namespaces of a testbed: util-linux `unshare` around libexec/overlay-init. */
import type { ChildProcess } from 'node:child_process';
import { isRoot, userNamespace } from '../../exec/as-root.ts';
import { packageFile } from '../../exec/package-file.ts';
import { startTime } from '../../exec/process-identity.ts';
import { cleanEnvironment, start } from '../../exec/run.ts';
import { TestbedError } from '../../protocol/errors.ts';
import { escapeLayer } from '../layers/merged.ts';
import { devices } from '../layers/skeleton.ts';
import { seeRoot } from '../seen-root.ts';
import type { SyscallNumbers } from '../../exec/syscalls.ts';

export interface Mounts {
  /** Mount point. */
  readonly root: string;
  /** Highest first, as overlayfs wants them. */
  readonly lower: readonly string[];
  readonly upper: string;
  readonly work: string;
  readonly resolvConf: string;
  /** A user to make; empty for none. */
  readonly user: string;
}

export interface Namespaces {
  /** For libexec/overlay-enter: the testbed's first process, and its namespaces by kind, a user namespace first. */
  readonly words: readonly string[];
  /** Settles when the testbed's first process has ended, for whatever reason. */
  readonly ended: Promise<void>;
  /** As {@link Testbed.openRoot}. */
  openRoot(): number | undefined;
  /** By the testbed's first process. @param owner default: root @throws {TestbedError} */
  makeDirectory(path: string, mode: number, owner?: string): Promise<void>;
  /** Ends every process in the testbed and waits for it. Idempotent. */
  stop(): Promise<void>;
}

/** Any other locale costs each program of the chain a dozen files to open. */
const bareEnvironment = { ...cleanEnvironment, LC_ALL: 'C' };

/** Milliseconds that a testbed gets to be set up, and to die before it is killed. */
const limits = { setUp: 60_000, stop: 10_000, die: 5_000 };

/**
 * Namespaces that wait to be told what to open: three programs start before that, which is most of what an open takes.
 * They end with our end of their standard input, so at the latest with us.
 * @param folder for those who look for our processes
 */
export function bootNamespaces(folder: string): ChildProcess {
  const child = start(unshareArgv(folder), ['pipe', 'pipe', 'pipe'], { env: bareEnvironment });
  child.stdin?.on('error', () => {}); // it may die before us
  child.on('error', () => {}); // whoever uses it hears of its end
  return child;
}

/** Whether it waits still. */
export function isWaiting({ pid, exitCode, signalCode }: ChildProcess): boolean {
  return pid !== undefined && exitCode === null && signalCode === null;
}

/** Ends what nobody told what to open, and waits for that. */
export async function endWaiting(child: ChildProcess): Promise<void> {
  if (!isWaiting(child)) return;
  const ended = new Promise<void>((resolve) => {
    child.once('error', () => resolve());
    child.once('exit', () => resolve());
  });
  child.stdin?.end();
  await ended;
}

/** @param child from {@link bootNamespaces}, for this one use */
export async function startNamespaces(
  child: ChildProcess,
  mounts: Mounts,
  numbers: SyscallNumbers,
  signal: AbortSignal,
): Promise<Namespaces> {
  const ended = new Promise<void>((resolve) => {
    child.once('error', () => resolve());
    child.once('exit', () => resolve());
  });
  let killFirst = (): boolean => false;
  // the testbed's first process goes before unshare, which it was told to end with: root in the testbed can take that back
  // (prctl(2), by ptrace(2)), and would live on
  const kill = (): void => {
    if (!killFirst()) child.kill('SIGKILL');
    else setTimeout(() => child.kill('SIGKILL'), limits.die).unref(); // it cannot die: nobody waits for that
  };
  signal.addEventListener('abort', kill, { once: true });
  try {
    child.stdin?.write(settingsOf(mounts, numbers));
    const pid = await readReady(child);
    stopListening(child);
    // neither its number, nor those of its namespaces, nor those of descriptors that lead to them are its own for longer than
    // it lives: the next testbed gets the same
    const started = startTime(pid);
    if (started === undefined) throw new TestbedError('open', 'overlay', 'the testbed ended');
    const lives = (): boolean => startTime(pid) === started;
    killFirst = () => lives() && killed(pid);
    const openRoot = seeRoot(`/proc/${pid}/root`, lives);
    return {
      words: [`process:${pid}:${started}`, ...kinds()],
      ended,
      openRoot: () => openRoot?.(),
      makeDirectory: (path, mode, owner) =>
        askForDirectory(child, ended, `mkdir ${mode.toString(8)} ${path}${owner === undefined ? '' : ' own'}\n`),
      stop: once(async () => {
        child.stdin?.end();
        const timer = setTimeout(kill, limits.stop);
        await ended;
        clearTimeout(timer);
      }),
    };
  } catch (error) {
    kill();
    await ended;
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', kill);
  }
}

function unshareArgv(folder: string): string[] {
  const unshare = isRoot() ? ['/usr/bin/unshare'] : userNamespace;
  const init = ['/usr/bin/perl', '-f', packageFile('libexec/overlay-init'), folder];
  return [...unshare, '--mount', '--uts', '--ipc', '--pid', '--fork', '--kill-child', '--', ...init];
}

/** As libexec/overlay-init reads them. A path may hold anything but NUL. */
function settingsOf(mounts: Mounts, numbers: SyscallNumbers): string {
  const root = isRoot();
  const settings = {
    root: mounts.root,
    lower: mounts.lower.map(escapeLayer).join(':'),
    upper: escapeLayer(mounts.upper),
    work: escapeLayer(mounts.work),
    options: root ? '' : ',userxattr',
    resolv: mounts.resolvConf,
    user: mounts.user,
    userns: root ? '' : '1',
    devices: devices.join(','),
    mount: numbers.mount,
    umount2: numbers.umount2,
    pivot_root: numbers.pivot_root,
  };
  const pairs = Object.entries(settings).map(([key, value]) => `${key}=${value}`);
  return `${pairs.join('\0')}\0\n`;
}

/** The host's process id of the testbed's first process. @throws {TestbedError} with the helper's own words */
function readReady(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    let said = '';
    let complaint = '';
    const fail = (message: string): void => reject(new TestbedError('open', 'overlay', message));
    const timer = setTimeout(() => fail('the testbed was not set up within a minute'), limits.setUp);
    child.stderr?.on('data', (chunk: Buffer) => (complaint += chunk.toString()));
    child.stdout?.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      const [, word, rest] = /^(ready|error) (.*)\n/.exec(said) ?? [];
      if (word === 'ready') resolve(Number(rest));
      if (word === 'error') fail(rest ?? '');
      if (word !== undefined) clearTimeout(timer);
    });
    child.once('error', (error) => fail(error.message));
    child.once('close', (code) => {
      clearTimeout(timer);
      fail(complaint.trim() || `unshare ended with ${code}`);
    });
  });
}

/**
 * To what its first process says unasked: root in the testbed can get at its streams from now on (pidfd_getfd(2)), and would
 * fill our memory. They are read all the same.
 */
function stopListening({ stdout, stderr }: ChildProcess): void {
  for (const stream of [stdout, stderr]) stream?.removeAllListeners('data').resume();
}

/** One request at a time: the server's commands are serial. */
function askForDirectory(child: ChildProcess, ended: Promise<void>, request: string): Promise<void> {
  return new Promise((resolve, reject) => {
    // not its exit event: that may be over already
    void ended.then(() => reject(new TestbedError('open', 'overlay', 'the testbed ended')));
    child.stdout?.once('data', (chunk: Buffer) => {
      const [, complaint] = /^error (.*)\n/.exec(chunk.toString()) ?? [];
      if (complaint === undefined) resolve();
      else reject(new TestbedError('open', 'overlay', complaint));
    });
    child.stdin?.write(request);
  });
}

/** @returns whether there was such a process */
function killed(pid: number): boolean {
  try {
    return process.kill(pid, 'SIGKILL');
  } catch {
    return false;
  }
}

function kinds(): string[] {
  return [...(isRoot() ? [] : ['user']), 'pid', 'uts', 'ipc', 'mnt'];
}

function once(action: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined;
  return () => (done ??= action());
}
