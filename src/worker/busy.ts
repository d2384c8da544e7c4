/** Whether anything is under way that must not be torn apart. */

export class Busy {
  #held = 0;
  #waiting: (() => void)[] = [];

  get idle(): boolean {
    return this.#held === 0;
  }

  /** Dispose ends it, once. */
  hold(): Disposable {
    this.#held += 1;
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (held) this.#held -= 1;
        held = false;
        if (this.idle) for (const wake of this.#waiting.splice(0)) wake();
      },
    };
  }

  /** Until it is idle for a moment: look again before you rely on it. */
  async wait(): Promise<void> {
    if (!this.idle) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }
}
