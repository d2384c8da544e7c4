/**
 * The worker's own session, served to a client program: a server on the pinned image, reachable through a
 * private unix socket with `goldbed-virt attach SOCKET`. What passes by is watched, so that a testbed failure is told
 * apart from the package's.
 */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { tooLongForSocket } from '../exec/socket-path.ts';
import { listen } from '../protocol/adt-virt/attach.ts';
import { TestbedError, UnavailableError } from '../protocol/errors.ts';
import type { ServerExit } from '../protocol/testbed.ts';
import type { OpenedImage } from './host.ts';
import type { StepClock } from './stages.ts';

export interface ServedSession extends AsyncDisposable {
  readonly socketPath: string;
  /**
   * To be called when the client has ended: waits for the server's end. @throws {TestbedError} if the testbed never
   * opened, failed, or was lost, whatever the client made of it
   */
  verify(): Promise<void>;
}

export interface ServeOptions {
  readonly image: OpenedImage;
  /** A 0700 folder for the socket. */
  readonly socketFolder: string;
  /** No longer than a run's id and the number of its attempt: checkSocketFolder. */
  readonly name: string;
  readonly clock: StepClock;
  readonly log: (line: string) => void;
}

/** A run's id and the number of its attempt: the 99th of its 999th run. */
const longestName = '0123456789abcdef-999-99';

/** @throws {UnavailableError} when no session can be served there */
export function checkSocketFolder(folder: string): void {
  const tooLong = tooLongForSocket(path.join(folder, `${longestName}.sock`));
  if (tooLong !== undefined) throw new UnavailableError(tooLong);
}

/** How long the server may take to clean up once its client is gone, in milliseconds. */
const cleanUpLimit = 30_000;

/** As long as the slowest backend takes to give up, and more. */
const closeLimit = 90_000;

export async function serveSession(options: ServeOptions, signal: AbortSignal): Promise<ServedSession> {
  const socketPath = path.join(options.socketFolder, `${options.name}.sock`);
  const channel = await options.image.start(options.log, signal);
  const watch = new Watch(options.clock);
  const listener = await listen(socketPath, channel, watch);
  return {
    socketPath,
    async verify() {
      const exit = await withLimit(channel.exited, cleanUpLimit);
      watch.verify(options.image.backend, exit);
    },
    async [Symbol.asyncDispose]() {
      channel.terminate();
      // a backend that hangs must not cost the slot; what is left goes when this worker has ended
      if ((await withLimit(channel.exited, closeLimit)) === undefined) options.log('the testbed does not close');
      await listener[Symbol.asyncDispose]();
      await rm(socketPath, { force: true });
    },
  };
}

/** Sees commands and replies as they pass, in order; the protocol has one reply for each command but `quit`. */
class Watch {
  readonly #clock: StepClock;
  readonly #pending: string[] = [];
  #opened = false;
  #failure: string | undefined;

  constructor(clock: StepClock) {
    this.#clock = clock;
  }

  onCommand(line: string): void {
    const verb = line.trim().split(/\s+/)[0] ?? '';
    this.#pending.push(verb);
    if (verb === 'open') this.#clock.begin('opened');
    if (verb === 'close') this.#clock.begin('closed');
  }

  onReply(line: string): void {
    const verb = this.#pending.shift() ?? 'banner';
    const ok = /^ok\b/.test(line);
    if (verb === 'open' && ok) this.#opened = true;
    if (verb === 'open' || verb === 'close') this.#clock.end();
    if (!ok && ['open', 'revert', 'close'].includes(verb)) this.#failure ??= `${verb}: the server answered "${line}"`;
  }

  verify(backend: string, exit: ServerExit | undefined): void {
    if (exit === undefined) throw new TestbedError('close', backend, 'the testbed did not close in time');
    if (this.#failure !== undefined) throw new TestbedError('run', backend, this.#failure);
    if (exit.kind === 'signal') throw new TestbedError('run', backend, `the server died by ${exit.signal}`);
    if (exit.code !== 0) throw new TestbedError('run', backend, `the server ended with ${exit.code}`);
    if (!this.#opened) throw new TestbedError('open', backend, 'the client ended without opening a testbed');
  }
}

async function withLimit<T>(promise: Promise<T>, milliseconds: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), milliseconds);
  });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}
