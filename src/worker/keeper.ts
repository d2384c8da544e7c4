/**
 * The jobs of this process, and their passing to a successor: another process of the same worker, which asks for them on a
 * private socket. Until it has them nothing has changed: if it vanishes, this process goes on. Afterwards this one is their
 * keeper: their sessions end with it, and it ends them when the successor is gone.
 */
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import path from 'node:path';
import { LeaseLost } from '../protocol/errors.ts';
import { Busy } from './busy.ts';
import type { Claimed } from './claimed.ts';
import { converse, errorOf, fromSuccessorSchema, type FromKeeper, type FromSuccessor } from './handover.ts';
import { KeptJob } from './kept-job.ts';
import type { Renewal } from './renewal.ts';

interface Successor {
  readonly socket: Socket;
  readonly say: (message: FromKeeper) => void;
}

export class Keeper implements AsyncDisposable {
  /** What must not be torn apart by a handover: claiming, beginning and settling jobs. */
  readonly busy = new Busy();
  readonly #server: Server;
  readonly #file: string;
  readonly #sockets = new Set<Socket>();
  readonly #jobs = new Set<KeptJob>();
  readonly #passed = new AbortController();
  readonly #lost = new AbortController();
  #answered = false;
  #successor: Successor | undefined;
  #onAsked: (() => void)[] = [];

  private constructor(file: string) {
    this.#file = file;
    this.#server = createServer((socket) => this.#welcome(socket));
  }

  /** @param folder the journal's: 0700 */
  static async open(folder: string): Promise<Keeper> {
    const file = keeperSocket(folder, process.pid);
    const keeper = new Keeper(file);
    await rm(file, { force: true }); // of a dead process that had our number
    keeper.#server.listen(file);
    await once(keeper.#server, 'listening');
    return keeper;
  }

  /** Fires in the moment in which the jobs pass to the successor. */
  get passed(): AbortSignal {
    return this.#passed.signal;
  }

  /** Fires when the successor is gone. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  begin(claimed: Claimed, renewal: Renewal): KeptJob {
    const job = new KeptJob({
      ...{ claimed, renewal, busy: this.busy },
      tell: (ended) => this.#tell(ended),
      forget: (ended) => void this.#jobs.delete(ended),
    });
    this.#jobs.add(job);
    return job;
  }

  /** Until somebody asks for the jobs. */
  async asked(): Promise<void> {
    while (this.#successor === undefined) await new Promise<void>((resolve) => this.#onAsked.push(resolve));
  }

  /** Waits until no job is between two states, then lets go of all. @returns false when nobody asks any more */
  async passOn(): Promise<boolean> {
    while (!this.busy.idle) await this.busy.wait();
    if (this.#successor === undefined) return false;
    for (const job of this.#jobs) job.passOn();
    this.#passed.abort();
    return true;
  }

  /** Hands the jobs over: to be called when this process does nothing any more that the successor will do. */
  answer(): void {
    this.#answered = true;
    this.#sendJobs();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.end();
    await closed;
    await rm(this.#file, { force: true });
  }

  #welcome(socket: Socket): void {
    const say = converse(socket, fromSuccessorSchema, (message) => {
      if (message.say === 'take') this.#accept({ socket, say });
      else if (this.#successor?.socket === socket) this.#obey(message);
    });
    this.#sockets.add(socket);
    socket.once('close', () => {
      this.#sockets.delete(socket);
      if (this.#successor?.socket !== socket) return;
      this.#successor = undefined;
      if (this.passed.aborted) this.#lose();
    });
  }

  /** The latest one counts: it has asked the one before it first (succession.ts). */
  #accept(successor: Successor): void {
    const before = this.#successor;
    this.#successor = successor;
    before?.socket.destroy();
    if (this.#answered) this.#sendJobs();
    for (const wake of this.#onAsked.splice(0)) wake();
  }

  #sendJobs(): void {
    this.#successor?.say({ say: 'jobs', jobs: [...this.#jobs].map((job) => job.describe()) });
  }

  #obey(message: Exclude<FromSuccessor, { say: 'take' }>): void {
    const job = [...this.#jobs].find(({ token }) => token === message.token);
    if (message.say === 'abort') job?.abort(errorOf(message.reason));
    else job?.acknowledge(message.lost);
  }

  #tell(job: KeptJob): void {
    const { settlement, token } = job;
    if (this.lost.aborted) job.acknowledge(lostMessage);
    else if (this.#answered && settlement !== undefined) this.#successor?.say({ say: 'ended', token, settlement });
  }

  /** As when a claim is lost: nothing is touched. The next worker finds the claims in the journal. */
  #lose(): void {
    this.#lost.abort();
    for (const job of this.#jobs) {
      job.abort(new LeaseLost(lostMessage));
      job.acknowledge(lostMessage);
    }
  }
}

const lostMessage = 'the process that had taken it over is gone';

export function keeperSocket(folder: string, pid: number): string {
  return path.join(folder, `k${pid}.sock`);
}

/** The sockets of all processes of the worker, those of dead ones included. */
export function isKeeperSocket(name: string): boolean {
  return /^k\d+\.sock$/.test(name);
}
