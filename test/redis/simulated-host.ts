/** A host with the real claim loop, ledger and claims; its jobs do nothing for as long as the test's clock says. */
import type { RedisHandle } from '../../src/redis/connect.ts';
import type { State } from '../../src/config/state.ts';
import { parseRoutingKey, routingKey, type RoutingKey } from '../../src/protocol/routing.ts';
import { fits, noResources, plus, sizeNames, type Resources, type Size } from '../../src/protocol/size.ts';
import type { Claimed } from '../../src/worker/claimed.ts';
import { Claims } from '../../src/worker/claims.ts';
import { openJournal } from '../../src/worker/journal.ts';
import type { Ledger } from '../../src/worker/ledger.ts';
import { runLoop } from '../../src/worker/loop.ts';
import { outcome } from './fixtures.ts';

export interface Clock {
  /** Seconds. */
  now: number;
}

interface Running {
  readonly size: Size;
  readonly ends: number;
  readonly end: () => void;
  readonly gone: Promise<void>;
}

export interface Start {
  readonly size: Size;
  readonly runId: string;
  readonly at: number;
}

/** Seconds without room after which the host keeps it. */
export const patience = 60;

export const keyOf = (size: Size): RoutingKey => routingKey('build', 'any', 'amd64', 'img', size);

export class SimulatedHost implements AsyncDisposable {
  readonly starts: Start[] = [];
  readonly ledger: Ledger;
  readonly #clock: Clock;
  readonly #seconds: (start: Start) => number;
  readonly #stop = new AbortController();
  #running: Running[] = [];
  #ring = (): void => {};
  #onIdle = (): void => {};
  #finished: Promise<void> = Promise.resolve();
  #claims: Claims | undefined;

  /** @param seconds how long a job takes */
  constructor(ledger: Ledger, clock: Clock, seconds: (start: Start) => number) {
    this.ledger = ledger;
    this.#clock = clock;
    this.#seconds = seconds;
  }

  async join(redis: RedisHandle, state: State): Promise<this> {
    const claims = new Claims(redis, await openJournal(state));
    this.#claims = claims;
    const watched = {
      ready: () => claims.ready(),
      first: (...asked: Parameters<Claims['first']>) => claims.first(...asked),
      keepRoomFor: (...keys: Parameters<Claims['keepRoomFor']>) => claims.keepRoomFor(...keys),
      claim: (key: RoutingKey) => {
        this.#mustFit(key);
        return claims.claim(key);
      },
      nextDue: () => {
        this.#onIdle(); // the loop asks when it has nothing more to do, and is about to sleep
        return undefined;
      },
    };
    this.#finished = runLoop(
      {
        ledger: this.ledger,
        claims: watched,
        offers: () => Promise.resolve(this.ledger.takes.map(keyOf)),
        run: (claimed) => this.#run(claimed),
        onNudge: (wake) => {
          this.#ring = wake;
          return () => {};
        },
        patience: patience * 1000,
        now: () => this.#clock.now * 1000,
        sweep: 10_000,
        log: (line) => {
          throw new Error(line);
        },
      },
      this.#stop.signal,
    );
    return this;
  }

  get running(): Size[] {
    return this.#running.map(({ size }) => size);
  }

  /** Ends what has had its time, and waits until the loop has begun all that it wants to begin now. */
  async settle(): Promise<void> {
    const over = this.#running.filter(({ ends }) => ends <= this.#clock.now);
    for (const { end } of over) end();
    await Promise.all(over.map(({ gone }) => gone));
    // twice: the first time it may be in the middle of a look that began before
    for (let i = 0; i < 2; i += 1) {
      const idle = new Promise<void>((resolve) => (this.#onIdle = resolve));
      this.#ring();
      await idle;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    for (const { end } of this.#running) end();
    await this.#finished;
    await this.#claims?.[Symbol.asyncDispose]();
  }

  async #run(claimed: Claimed): Promise<void> {
    const start = { size: parseRoutingKey(claimed.key)?.size ?? 'm', runId: claimed.runId, at: this.#clock.now };
    this.starts.push(start);
    let end = (): void => {};
    const over = new Promise<void>((resolve) => (end = resolve));
    const gone = over.then(() => claimed.complete(outcome()));
    const one = { size: start.size, ends: start.at + this.#seconds(start), end, gone };
    this.#running.push(one);
    await gone;
    this.#running = this.#running.filter((each) => each !== one);
  }

  /** By the host's own jobs, not by its ledger. @throws it claims what it has no room for */
  #mustFit(key: RoutingKey): void {
    const sizes = [...this.running, ...sizeNames.filter((size) => keyOf(size) === key)];
    const all = sizes.map((size): Resources => this.ledger.sizes[size]).reduce(plus, noResources);
    if (!fits(all, this.ledger.capacity)) throw new Error(`no room: ${sizes.join(' ')}`);
  }
}
