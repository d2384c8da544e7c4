/** One schroot session: its definition, its beginning and its end. The programs are Debian's own schroot. */
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { cleanEnvironment, CommandFailed, run } from '../../exec/run.ts';
import { TestbedError, type TestbedStep } from '../../protocol/errors.ts';

/** A chroot of goldbed's, for one session: the layers of a generation below a layer of its own. */
export interface ChrootDefinition {
  /** Highest first. */
  readonly lower: string;
  readonly upper: string;
  readonly work: string;
  /** Any one folder: schroot wants to see that its directory exists. */
  readonly directory: string;
  /** To be mounted over the root's own; undefined: that is the right one. */
  readonly resolvConf?: string;
  /** Private; holds the files that the definition names. */
  readonly folder: string;
}

export interface SchrootSession {
  /** Where the session's root is mounted, absolute. */
  readonly root: string;
  /** Ends its processes, unmounts, forgets it. @throws {TestbedError} */
  end(): Promise<void>;
}

const schroot = '/usr/bin/schroot';
const definitions = '/etc/schroot/chroot.d';
/** One file for each that is open: where schroot looks for them. */
const sessions = '/var/lib/schroot/session';
const environment = { ...cleanEnvironment, LC_ALL: 'C' };

/** schroot takes letters, digits, `-` and `_`. */
export function schrootName(sessionId: string): string {
  return `goldbed-${sessionId}`;
}

/** The definition lives only until the session has begun: a session keeps its own copy. @throws {TestbedError} */
export async function beginOnLayers(
  sessionId: string,
  definition: ChrootDefinition,
  signal: AbortSignal,
): Promise<SchrootSession> {
  const name = schrootName(sessionId);
  const file = path.join(definitions, name);
  const at = (kind: string): string => path.join(definition.folder, kind);
  writeFileSync(at('fstab'), fstab(definition));
  writeFileSync(at('nothing'), '');
  writeFileSync(file, definitionText(name, definition, at), { mode: 0o644 });
  try {
    return await begin(name, name, signal, mountedAt);
  } finally {
    rmSync(file, { force: true });
  }
}

/** @param chroot as `schroot --list` names it @throws {TestbedError} */
export async function begin(
  chroot: string,
  sessionName: string,
  signal: AbortSignal,
  location: (sessionName: string) => Promise<string> = locationOf,
): Promise<SchrootSession> {
  await call('open', ['--begin-session', `--chroot=${chroot}`, `--session-name=${sessionName}`], signal);
  return { root: await location(sessionName), end: () => end(sessionName) };
}

async function locationOf(sessionName: string): Promise<string> {
  return (await call('open', ['--location', `--chroot=session:${sessionName}`])).trim();
}

/** The same for a chroot of ours, as schroot has noted it: that saves one more start of it. */
async function mountedAt(sessionName: string): Promise<string> {
  const noted = await readFile(path.join(sessions, sessionName), 'utf8').catch(() => '');
  return /^mount-location=(\/.+)$/m.exec(noted)?.[1] ?? locationOf(sessionName);
}

/** Milliseconds before it is tried again: a command that began in that moment keeps the mounts busy, and is killed then. */
const pauses = [50, 100, 200, 400, 800, 1600];

/** Also fine where somebody else has ended it. @throws {TestbedError} */
async function end(sessionName: string): Promise<void> {
  for (const pause of [...pauses, undefined]) {
    try {
      await call('close', ['--end-session', `--chroot=session:${sessionName}`]);
      return;
    } catch (error) {
      if (!isOpen(sessionName)) return;
      if (pause === undefined) throw error;
      await delay(pause);
    }
  }
}

function isOpen(sessionName: string): boolean {
  return existsSync(path.join(sessions, sessionName));
}

/** Ends the session if there is one of that name. @throws {TestbedError} while there still is */
export async function endByName(sessionName: string): Promise<void> {
  await untilBegun(sessionName);
  rmSync(path.join(definitions, sessionName), { force: true });
  if (isOpen(sessionName)) await end(sessionName);
}

/** Milliseconds: how long schroot may take to begin a session on a busy host, and between two looks. */
const beginning = { limit: 30_000, look: 50 };

/** The schroot of an owner that was killed goes on by itself, and would leave a session after we have looked for it. */
async function untilBegun(sessionName: string): Promise<void> {
  const limit = performance.now() + beginning.limit;
  while (performance.now() < limit && (await isBeginning(sessionName))) await delay(beginning.look);
}

async function isBeginning(sessionName: string): Promise<boolean> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
  return lines.some((line) => line.split('\0').includes(`--session-name=${sessionName}`));
}

/** As `schroot --list` names them. */
export async function listChroots(): Promise<string[]> {
  const { stdout } = await run([schroot, '--list', '--all-chroots'], { env: environment });
  return stdout.split('\n').filter((line) => line !== '');
}

/** Milliseconds for a beginning that nobody wants any more: half of one takes longer to clear away than a whole one. */
const lateLimit = 20_000;

async function call(step: TestbedStep, args: readonly string[], signal?: AbortSignal): Promise<string> {
  signal?.throwIfAborted();
  const argv = [schroot, ...args];
  const late = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const stop = (): void => void (timer = setTimeout(() => late.abort(signal?.reason), lateLimit));
  signal?.addEventListener('abort', stop, { once: true });
  const finished = await run(argv, { env: environment, signal: late.signal }).finally(() => {
    signal?.removeEventListener('abort', stop);
    clearTimeout(timer);
  });
  if (finished.code === 0) return finished.stdout;
  throw new TestbedError(step, 'schroot', new CommandFailed(argv, finished).message);
}

/** schroot.conf(5). No user database and no file of the host's is copied in: the chroot may become an image. */
function definitionText(name: string, definition: ChrootDefinition, at: (kind: string) => string): string {
  // it puts /etc/schroot/ before whatever is said
  const [fstabFile, nothing] = ['fstab', 'nothing'].map((kind) => path.relative('/etc/schroot', at(kind)));
  const { lower, upper, work, directory } = definition;
  const lines = [
    ...[`[${name}]`, 'description=a session of goldbed', 'type=directory', `directory=${directory}`],
    ...['root-users=root', 'union-type=overlay'],
    `union-mount-options=lowerdir=${lower},upperdir=${upper},workdir=${work},volatile`,
    ...[`setup.fstab=${fstabFile}`, `setup.copyfiles=${nothing}`, `setup.nssdatabases=${nothing}`],
  ];
  return `${lines.join('\n')}\n`;
}

/** As schroot's own `buildd` profile. */
function fstab({ resolvConf }: ChrootDefinition): string {
  const lines = [
    '/proc /proc none rw,bind 0 0',
    '/sys /sys none rw,bind 0 0',
    '/dev/pts /dev/pts none rw,bind 0 0',
    'tmpfs /dev/shm tmpfs defaults 0 0',
    ...(resolvConf === undefined ? [] : [`${resolvConf} /etc/resolv.conf none rw,bind 0 0`]),
  ];
  return `${lines.join('\n')}\n`;
}
