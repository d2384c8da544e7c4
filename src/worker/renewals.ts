/**
 * The thread that renews claims, seen from the thread that runs the jobs: it has a connection and a clock of its own, so that
 * a busy event loop here (a large archive, a long list of files) loses no claim and no heartbeat. It is told what is held,
 * says what was lost, and ends with the process. Its program is renewal-thread.ts.
 */
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { packageFile } from '../exec/package-file.ts';
import { messageOf } from '../protocol/errors.ts';
import type { RedisHandle, RedisTarget } from '../redis/connect.ts';
import type { Claimed } from './claimed.ts';
import type { Log } from './handle.ts';
import { monotonic } from './monotonic.ts';

/** What a renewal needs to know of a claim. */
export type ClaimHeld = Pick<Claimed, 'key' | 'runId' | 'attempt' | 'token'>;

/** Milliseconds between renewals, and for which the lock then holds. */
export interface Pace {
  readonly every: number;
  readonly lock: number;
}

export interface Held extends Disposable {
  /** When the last renewal that succeeded began: milliseconds of monotonic.ts. */
  readonly renewed: () => number;
}

/** The member of the set of workers that tells that this one lives; milliseconds between beats, and for which one counts. */
export interface Heart {
  readonly member: string;
  readonly beat: number;
  readonly alive: number;
}

export interface Heartbeats extends Disposable {
  /** It was told from here: the thread need not. */
  beaten(): void;
}

export interface Renewals {
  /** Until it is disposed of. @param lost called once, when somebody else has the job, or may have it */
  hold(claim: ClaimHeld, pace: Pace, lost: () => void): Held;
  /** Tells it whenever we are late with it, until it is disposed of; never anew once it was taken out. */
  keepAlive(heart: Heart): Heartbeats;
}

/** What the thread begins with. */
export interface ThreadData {
  readonly target: RedisTarget;
  readonly prefix: string;
  /** Milliseconds without a word from us after which it renews nothing: we hang, and others must have the jobs. */
  readonly patience: number;
}

export type ToThread =
  | { readonly say: 'hold'; readonly claim: ClaimHeld; readonly pace: Pace; readonly renewed: SharedArrayBuffer }
  | { readonly say: 'let-go'; readonly token: string }
  | { readonly say: 'keep-alive'; readonly heart: Heart }
  | { readonly say: 'beaten' | 'quiet' | 'here' };

export interface FromThread {
  readonly say: 'lost';
  readonly token: string;
}

export interface ThreadOptions {
  readonly log: Log;
  readonly patience?: number;
}

/** As long as a lock lives: whoever hangs for longer had no claim on its jobs before there was a thread either. */
const usualPatience = 600_000;

/** Milliseconds between two signs of life for the thread, and before one that failed is begun anew. */
const pauses = { here: 10_000, again: 1000 };

export class RenewalThread implements Renewals, AsyncDisposable {
  readonly #data: ThreadData;
  readonly #options: ThreadOptions;
  readonly #held = new Map<string, { readonly words: ToThread; readonly lost: () => void }>();
  readonly #here: NodeJS.Timeout;
  #heart: Heart | undefined;
  #thread: Worker | undefined;
  #ended = false;

  /** Begins with the first claim or heartbeat. @param redis where the claims are */
  constructor({ target, prefix }: RedisHandle, options: ThreadOptions) {
    // what the settings of the server are was asked once: a later answer must not keep us from renewing
    const trusted = target.kind === 'url' ? { ...target, allowUnsafe: true } : target;
    this.#data = { target: trusted, prefix, patience: options.patience ?? usualPatience };
    this.#options = options;
    this.#here = setInterval(() => this.#thread?.postMessage({ say: 'here' } satisfies ToThread), pauses.here).unref();
  }

  hold(claim: ClaimHeld, pace: Pace, lost: () => void): Held {
    const { key, runId, attempt, token } = claim;
    const renewed = new SharedArrayBuffer(8); // read when it is needed: a message waits while we are busy
    const at = new BigInt64Array(renewed);
    Atomics.store(at, 0, BigInt(monotonic()));
    const words: ToThread = { say: 'hold', claim: { key, runId, attempt, token }, pace, renewed };
    this.#held.set(token, { words, lost });
    this.#say(words);
    return {
      renewed: () => Number(Atomics.load(at, 0)),
      [Symbol.dispose]: () => {
        if (this.#held.delete(token)) this.#say({ say: 'let-go', token });
      },
    };
  }

  keepAlive(heart: Heart): Heartbeats {
    this.#heart = heart;
    this.#say({ say: 'keep-alive', heart });
    return {
      beaten: () => this.#say({ say: 'beaten' }),
      [Symbol.dispose]: () => {
        this.#heart = undefined;
        this.#say({ say: 'quiet' });
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    clearInterval(this.#here);
    await this.#thread?.terminate();
  }

  #say(words: ToThread): void {
    if (this.#ended) return;
    if (this.#thread === undefined) this.#begin(); // which says all that holds
    else this.#thread.postMessage(words);
  }

  #begin(): void {
    const { log } = this.#options;
    const thread = new Worker(programFile(), { workerData: this.#data });
    thread.on('message', ({ token }: FromThread) => this.#held.get(token)?.lost());
    thread.on('error', (error) => log(`the thread that renews claims has failed: ${messageOf(error)}`));
    thread.once('exit', () => {
      // 'exit' follows 'error'. Until there is another one nothing is lost: the locks last for longer
      this.#thread = undefined;
      if (!this.#ended) setTimeout(() => this.#ended || this.#thread || this.#begin(), pauses.again).unref();
    });
    thread.unref(); // after the listeners: one for messages would keep the process
    this.#thread = thread;
    for (const { words } of this.#held.values()) thread.postMessage(words);
    if (this.#heart !== undefined) thread.postMessage({ say: 'keep-alive', heart: this.#heart } satisfies ToThread);
  }
}

/** Beside this file, in `dist/` and in the bundle of the programs; a checkout that runs from `src/` needs a loader first. */
function programFile(): string {
  if (import.meta.url.endsWith('.ts')) return packageFile('scripts/thread-from-source.mjs');
  return fileURLToPath(new URL('renewal-thread.js', import.meta.url));
}
