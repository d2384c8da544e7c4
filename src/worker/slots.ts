/** The host's ledger of slots. All are of one size so far. */

export type Slot = Disposable;

export class Slots {
  readonly total: number;
  #used = 0;

  constructor(total: number) {
    this.total = total;
  }

  get free(): number {
    return this.total - this.#used;
  }

  /** Undefined when all are taken. Dispose frees it, once. */
  tryReserve(): Slot | undefined {
    return this.#used >= this.total ? undefined : this.take();
  }

  /** For what runs already, also where there are not as many: nothing is reserved then until there are. */
  take(): Slot {
    this.#used += 1;
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (held) this.#used -= 1;
        held = false;
      },
    };
  }
}
