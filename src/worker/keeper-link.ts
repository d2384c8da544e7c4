/** The successor's end: the jobs that a keeper hands over, and the conversation about them until each has ended. */
import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import {
  converse,
  fromKeeperSchema,
  reasonOf,
  type FromSuccessor,
  type HandedJob,
  type Settlement,
} from './handover.ts';

/** A job that runs in another process of this worker. */
export interface AdoptedJob {
  readonly handed: HandedJob;
  /** How it has ended; undefined when its keeper is gone, and its session with it. */
  readonly ending: Promise<Settlement | undefined>;
  /** @param reason its signal fires with it */
  abort(reason: unknown): void;
  /** Lets the keeper forget it. @param lost why the claim could not be settled */
  acknowledge(lost?: string): void;
}

export class KeeperLink implements Disposable {
  readonly jobs: readonly AdoptedJob[];
  /** The keeper has nothing more to tell, has been asked by another process, or is gone. */
  readonly closed: Promise<void>;
  readonly #socket: Socket;

  private constructor(socket: Socket, jobs: readonly AdoptedJob[], closed: Promise<void>) {
    this.#socket = socket;
    this.jobs = jobs;
    this.closed = closed;
  }

  /** Asks a keeper, and waits until it has let go: as long as that takes. @throws when it is not there, or refuses */
  static async take(socketPath: string): Promise<KeeperLink> {
    const socket = createConnection(socketPath);
    await once(socket, 'connect');
    const closed = new Promise<void>((resolve) => void socket.once('close', () => resolve()));
    const ends = new Map<string, (settlement: Settlement | undefined) => void>();
    let answer = (_jobs: readonly HandedJob[]): void => {};
    const answered = new Promise<readonly HandedJob[]>((resolve) => (answer = resolve));
    const say = converse(socket, fromKeeperSchema, (message) => {
      if (message.say === 'ended') ends.get(message.token)?.(message.settlement);
      else {
        adopted.push(...message.jobs.map((handed) => adopt(handed, say, ends))); // now: its end may be the next line
        answer(message.jobs);
      }
    });
    const adopted: AdoptedJob[] = [];
    void closed.then(() => {
      for (const end of ends.values()) end(undefined);
    });
    say({ say: 'take', version: 1 });
    if ((await Promise.race([answered, closed])) === undefined) throw new Error(`${socketPath}: nothing handed over`);
    return new KeeperLink(socket, adopted, closed);
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}

function adopt(
  handed: HandedJob,
  say: (message: FromSuccessor) => void,
  ends: Map<string, (settlement: Settlement | undefined) => void>,
): AdoptedJob {
  const { token, settlement } = handed;
  return {
    handed,
    ending: new Promise((resolve) => {
      ends.set(token, resolve);
      if (settlement !== undefined) resolve(settlement);
    }),
    abort: (reason) => say({ say: 'abort', token, reason: reasonOf(reason) }),
    acknowledge: (lost) => say({ say: 'settled', token, ...(lost === undefined ? {} : { lost }) }),
  };
}
