/**
 * How many jobs a host may have at risk: one that fails everything in a second must not have taken 32 of them by the time
 * that it knows. While nothing has gone well here since the start, or the last failure, few jobs may be young at a time. A
 * job that has run for a while has a testbed that works, and lets two more in; one that succeeds lifts the limit.
 */

/** Jobs at first. With {@link usualTimes} of the breaker a host that fails everything touches five. */
const first = 4;

/** Milliseconds after which a job that runs is proof of its testbed. */
const proof = 10_000;

export interface Risk {
  /** Once. */
  ended(how: 'well' | 'badly' | 'otherwise'): void;
}

export class SlowStart {
  #young = 0;
  #old = 0;
  #failures = 0;
  #trusted = false;
  readonly #listeners = new Set<() => void>();
  readonly #proof: number;

  constructor(milliseconds = proof) {
    this.#proof = milliseconds;
  }

  /** Whether another job may begin now. */
  get room(): boolean {
    return this.#trusted || this.#young < Math.max(1, first + 2 * this.#old - this.#failures);
  }

  began(): Risk {
    this.#young += 1;
    let old = false;
    const timer = setTimeout(() => {
      old = true;
      this.#young -= 1;
      this.#old += 1;
      for (const each of this.#listeners) each();
    }, this.#proof);
    return {
      ended: (how) => {
        clearTimeout(timer);
        if (old) this.#old -= 1;
        else this.#young -= 1;
        if (how === 'otherwise') return;
        this.#trusted = how === 'well';
        this.#failures = this.#trusted ? 0 : this.#failures + 1;
      },
    };
  }

  /** Calls back when a job has become proof: there may be room. @returns how to stop */
  listen(each: () => void): () => void {
    this.#listeners.add(each);
    return () => void this.#listeners.delete(each);
  }
}
