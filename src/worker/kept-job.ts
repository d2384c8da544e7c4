/**
 * A job whose session is in this process. Its claim may pass to another process while it runs: then that one renews and
 * settles it, and what would be done in Redis here is told to it.
 */
import { resolvers, type Resolvers } from '../exec/resolvers.ts';
import { LeaseLost } from '../protocol/errors.ts';
import type { Outcome } from '../protocol/outcome.ts';
import type { RetriedClass, Spent } from './budgets.ts';
import type { Busy } from './busy.ts';
import type { Claimed } from './claimed.ts';
import type { HandedJob, Settlement } from './handover.ts';
import type { Renewal } from './renewal.ts';

export interface KeptJobParts {
  readonly claimed: Claimed;
  readonly renewal: Renewal;
  readonly busy: Busy;
  /** It has ended, and the claim is another process's. */
  readonly tell: (job: KeptJob) => void;
  readonly forget: (job: KeptJob) => void;
}

export class KeptJob implements Claimed, Disposable {
  readonly signal: AbortSignal;
  readonly #parts: KeptJobParts;
  readonly #stop = new AbortController();
  readonly #since = Date.now();
  /** Until it needs nothing of Redis any more but its settlement. */
  readonly #beginning: Disposable;
  #passed = false;
  #settlement: Settlement | undefined;
  #acknowledged: Resolvers | undefined;

  constructor(parts: KeptJobParts) {
    this.#parts = parts;
    this.#beginning = parts.busy.hold();
    this.signal = AbortSignal.any([parts.renewal.signal, this.#stop.signal]);
  }

  get runId(): string {
    return this.#parts.claimed.runId;
  }
  get key(): string {
    return this.#parts.claimed.key;
  }
  get data(): unknown {
    return this.#parts.claimed.data;
  }
  get submitted(): number {
    return this.#parts.claimed.submitted;
  }
  get attempt(): number {
    return this.#parts.claimed.attempt;
  }
  get token(): string {
    return this.#parts.claimed.token;
  }
  get entry(): string {
    return this.#parts.claimed.entry;
  }
  /** Whether another process has its claim. */
  get passed(): boolean {
    return this.#passed;
  }
  get settlement(): Settlement | undefined {
    return this.#settlement;
  }

  /** All has been asked of Redis that is to be asked before it runs: it may pass on from now. */
  begun(): void {
    this.#beginning[Symbol.dispose]();
  }

  /** Synchronous: there is no moment in which both processes settle it, or none. */
  passOn(): void {
    this.#passed = true;
    this.#parts.renewal[Symbol.dispose]();
  }

  describe(): HandedJob {
    const { key, token, runId, attempt, submitted, entry } = this;
    const settlement = this.#settlement === undefined ? {} : { settlement: this.#settlement };
    return { key, token, runId, attempt, submitted, claimed: this.#since, entry, ...settlement };
  }

  abort(reason: Error): void {
    this.#stop.abort(reason);
  }

  /** @param lost why the claim could not be settled, and need not be any more */
  acknowledge(lost?: string): void {
    if (lost === undefined) this.#acknowledged?.resolve();
    else this.#acknowledged?.reject(new LeaseLost(lost));
  }

  takeTurn(): void {
    this.#parts.claimed.takeTurn();
  }

  renew(): Promise<boolean> {
    return this.#parts.claimed.renew();
  }

  record(outcome: Outcome): Promise<void> {
    return this.#parts.claimed.record(outcome);
  }

  spend(of: RetriedClass, host: string): Promise<Spent> {
    return this.#parts.claimed.spend(of, host);
  }

  strike(): Promise<void> {
    return this.#parts.claimed.strike();
  }

  async complete(outcome: Outcome): Promise<void> {
    if (!this.#passed) return this.#here(() => this.#parts.claimed.complete(outcome));
    // the other process may die before it has told Redis; on a full disk that is told all the same
    await this.record(outcome).catch(() => {});
    return this.#there({ how: 'complete', outcome });
  }

  fail(error: Error, { retry }: { retry: boolean }): Promise<void> {
    if (!this.#passed) return this.#here(() => this.#parts.claimed.fail(error, { retry }));
    const { message, stack } = error;
    return this.#there({ how: 'fail', message, ...(stack === undefined ? {} : { stack }), retry });
  }

  giveBack(): Promise<void> {
    return this.#passed ? this.#there({ how: 'give-back' }) : this.#here(() => this.#parts.claimed.giveBack());
  }

  /** This and the next are for jobs that have not begun: those do not pass on. */
  leave(delay: number): Promise<void> {
    return this.#here(() => this.#parts.claimed.leave(delay));
  }

  drop(): Promise<void> {
    return this.#here(() => this.#parts.claimed.drop());
  }

  [Symbol.dispose](): void {
    this.begun();
    this.#parts.renewal[Symbol.dispose]();
    if (this.#passed && this.#settlement === undefined) {
      this.#settlement = { how: 'nothing' };
      this.#parts.tell(this);
    }
    this.#parts.forget(this);
  }

  async #here(settle: () => Promise<void>): Promise<void> {
    using _ = this.#parts.busy.hold();
    await settle();
  }

  #there(settlement: Settlement): Promise<void> {
    this.#settlement = settlement;
    this.#acknowledged = resolvers();
    this.#parts.tell(this);
    return this.#acknowledged.promise;
  }
}
