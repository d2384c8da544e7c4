/** One container of a session: created, started, entered and ended. */
import { chmodSync, constants, mkdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import type Docker from 'dockerode';
import { packageFile } from '../../exec/package-file.ts';
import { unlessAborted, within } from '../../exec/patience.ts';
import { messageOf, TestbedError } from '../../protocol/errors.ts';
import type { Argv } from '../../protocol/testbed.ts';
import { O_PATH, type SyscallNumbers } from '../../exec/syscalls.ts';
import { normalUser } from '../normal-user.ts';
import { listenForAgent, type AgentLink } from './agent-link.ts';
import { statusOf } from './client.ts';
import { delegateCgroups } from './delegate-cgroups.ts';
import { ownLabels } from './labels.ts';
import { lastWords } from './last-words.ts';
import { rootOfContainer } from './root.ts';
import { layeredDrivers } from './storage.ts';

export interface RunningContainer {
  readonly auxverb: Argv;
  /** The image's own init runs in it. */
  readonly booted: boolean;
  makeDirectory(path: string, mode: number, owner?: string): Promise<void>;
  /** As {@link Testbed.openRoot}. */
  openRoot(): Promise<number | undefined>;
  /** Ends every process in it and waits for that; the container itself stays, if it was to be kept. Idempotent. */
  stop(): Promise<void>;
  /** The daemon's folder with its changes (an overlayfs upper layer), where the daemon has one. */
  upperDirectory(): Promise<string | undefined>;
  /** Stops it, and forgets it. Idempotent. */
  remove(): Promise<void>;
}

export interface ContainerPlan {
  readonly image: string;
  readonly sessionId: string;
  /** Private to us; what the container shares with us is made in it. */
  readonly folder: string;
  readonly network?: string;
  /** Boots the image's own init, where it has one. */
  readonly init: boolean;
  /** Stays when it has stopped, so that its changes can be taken. */
  readonly kept: boolean;
}

/** Where the container sees the shared folder: on the /dev of its own, so that nothing of it becomes part of its changes. */
const inside = '/dev/goldbed';

/** Milliseconds for a container to die of its first process's end, before it is killed; and until that is tried again. */
const killInterval = 10_000;

/** Milliseconds until nobody waits any more: a worker's slot must not be lost to a daemon that hangs. */
const stopLimit = 60_000;

/** Milliseconds from the end of a container's processes to the daemon's telling of it. */
const noticeLimit = 2_000;

export async function startContainer(
  docker: Docker,
  plan: ContainerPlan,
  numbers: SyscallNumbers,
  signal: AbortSignal,
): Promise<RunningContainer> {
  const shared = path.join(plan.folder, 'agent');
  rmSync(shared, { recursive: true, force: true });
  mkdirSync(shared);
  chmodSync(shared, 0o777); // the container's root may be another user here, and makes a socket; the folder above is ours alone
  const options = optionsOf(plan, shared, numbers);
  const link = await listenForAgent(path.join(shared, 'server.sock'));
  const starting = new AbortController();
  const creating = docker.createContainer(options);
  let container: Docker.Container | undefined;
  try {
    container = await unlessAborted(creating, signal);
    await unlessAborted(container.start(), signal);
    const { init } = await unlessAborted(
      Promise.race([link.ready, failed(container, shared, starting.signal)]),
      signal,
    );
    chmodSync(shared, 0o755); // other users of the container must not put a socket of theirs in its place
    if (init) await boot(container, link, shared, numbers, starting.signal, signal);
    return running(container, link, path.join(shared, 'run.sock'), numbers, init);
  } catch (error) {
    link.end();
    // a daemon that hangs: whoever was told to stop does not wait for it, and nobody else for long
    const forgotten = creating.then(forget).catch(() => {});
    if (!signal.aborted || container !== undefined) await within(forgotten, killInterval, daemonHangs).catch(() => {});
    signal.throwIfAborted();
    if (error instanceof TestbedError) throw error;
    throw new TestbedError('open', 'docker', messageOf(error), { cause: error });
  } finally {
    starting.abort(); // its end, hours later, is no failure to start
  }
}

/** Its first process becomes the image's own init. */
async function boot(
  container: Docker.Container,
  link: AgentLink,
  shared: string,
  numbers: SyscallNumbers,
  starting: AbortSignal,
  signal: AbortSignal,
): Promise<void> {
  await delegateCgroups(container, numbers, signal);
  const ended = failed(container, shared, starting, systemdNeedsRoot);
  // the agent ends with the container, and that may be noticed first
  const booted = link.boot().catch((error: unknown) => within(ended, noticeLimit, () => error as Error));
  await unlessAborted(Promise.race([booted, ended]), signal);
}

function optionsOf(plan: ContainerPlan, shared: string, numbers: SyscallNumbers): Docker.ContainerCreateOptions {
  const text = (name: string): string => readFileSync(packageFile(`libexec/${name}`), 'utf8');
  const agent = `${text('normal-user')}\n${text('docker-agent')}`;
  const user = plan.kept ? [] : [normalUser]; // what becomes part of an image has no user of ours
  return {
    Image: plan.image,
    Cmd: ['/usr/bin/perl', '-f', '-e', agent, String(numbers.recvmsg), inside, plan.init ? 'init' : '', ...user],
    Labels: ownLabels(plan.sessionId),
    HostConfig: {
      AutoRemove: !plan.kept,
      Mounts: [{ Type: 'bind', Source: shared, Target: inside }],
      LogConfig: { Type: 'none', Config: {} }, // logs are the clients' own
      ...(plan.init ? { Tmpfs: { '/run': '', '/run/lock': '' }, CgroupnsMode: 'private' } : {}), // systemd's wishes
      ...(plan.network === undefined ? {} : { NetworkMode: plan.network }),
    },
  };
}

/** @returns the status of its first process; undefined where the daemon has forgotten it */
async function untilEnded(container: Docker.Container, abortSignal: AbortSignal): Promise<number | undefined> {
  try {
    const { StatusCode } = (await container.wait({ condition: 'not-running', abortSignal })) as { StatusCode?: number };
    return StatusCode;
  } catch (error) {
    if (statusOf(error) === 404) return undefined; // removed already
    throw error;
  }
}

const daemonHangs = (): Error => new TestbedError('open', 'docker', 'the daemon does not remove the container');

const systemdNeedsRoot = 'if its init is systemd: that takes a goldbed that runs as root, or docker.init off';

/** @param starting no longer than that: then its end is nothing special, and what it shares with us its own */
async function failed(
  container: Docker.Container,
  shared: string,
  starting: AbortSignal,
  guess = 'has the image /usr/bin/perl?',
): Promise<never> {
  const status = await untilEnded(container, starting);
  const how = status === undefined ? '' : ` with status ${status}`;
  const why = lastWords(path.join(shared, 'last-words')) ?? guess;
  throw new TestbedError('open', 'docker', `the container ended at once${how} (${why})`);
}

function running(
  container: Docker.Container,
  link: AgentLink,
  socket: string,
  numbers: SyscallNumbers,
  booted: boolean,
): RunningContainer {
  const flags = O_PATH | constants.O_NOFOLLOW;
  const enter = ['/usr/bin/perl', '-f', packageFile('libexec/docker-enter')] as const;
  let stopping: Promise<void> | undefined;
  const stop = (): Promise<void> => (stopping ??= stopNow(container, link, booted));
  return {
    auxverb: [...enter, String(numbers.sendmsg), String(numbers.openat), String(flags), socket, '--'],
    booted,
    makeDirectory: (directory, mode, owner) => link.makeDirectory(directory, mode, owner),
    openRoot: rootOfContainer(container),
    stop,
    async upperDirectory() {
      const { GraphDriver } = await container.inspect();
      if (GraphDriver === undefined || !layeredDrivers.has(GraphDriver.Name)) return undefined;
      return (GraphDriver.Data as { UpperDir?: string }).UpperDir;
    },
    async remove() {
      await stop();
      await forget(container);
    },
  };
}

/**
 * An init that is asked to end takes its time, and nothing of it is needed any more.
 * @throws {TestbedError} when it has not ended within a minute: whoever reaps finds it
 */
async function stopNow(container: Docker.Container, link: AgentLink, booted: boolean): Promise<void> {
  link.end();
  const kill = (): void => void container.kill().catch(() => {}); // it may have ended; else it is tried again
  if (booted) kill();
  const timer = setInterval(kill, killInterval);
  const waiting = new AbortController();
  const late = (): Error => new TestbedError('close', 'docker', 'the container does not end');
  try {
    await within(untilEnded(container, waiting.signal), stopLimit, late);
  } finally {
    clearInterval(timer);
    waiting.abort();
  }
}

/** Gone for good, and its volumes; fine when the daemon has removed it, or is just doing so. */
async function forget(container: Docker.Container): Promise<void> {
  try {
    await container.remove({ force: true, v: true });
  } catch (error) {
    const status = statusOf(error);
    if (status !== 404 && status !== 409) throw error;
  }
}
