/**
 * The host's ledger: what its jobs have reserved, of processors, memory and disk. Nothing is claimed that is not reserved
 * first. It counts, and does not enforce: a job that takes more than its size is not stopped.
 */
import {
  fits,
  howMany,
  minus,
  noResources,
  plus,
  sizeNames,
  usualSize,
  type Resources,
  type Size,
  type Sizes,
} from '../protocol/size.ts';

/** What a job holds. Dispose frees it, once. */
export type Reservation = Disposable;

/** Room that is kept for one job of a size, until it is disposed of. */
export interface KeptRoom extends Disposable {
  /** Undefined while those that ran before still take up too much. */
  reserve(): Reservation | undefined;
}

interface Kept {
  readonly size: Size;
  /** Reserved by those that began since: they stay out of the room that is kept. */
  since: Resources;
}

export class Ledger {
  readonly capacity: Resources;
  readonly sizes: Sizes;
  #reserved = noResources;
  #kept: Kept | undefined;

  constructor(capacity: Resources, sizes: Sizes) {
    this.capacity = capacity;
    this.sizes = sizes;
  }

  get reserved(): Resources {
    return this.#reserved;
  }

  /** As many jobs of the usual size fit the host. */
  get slots(): number {
    return howMany(this.sizes[usualSize], this.capacity);
  }

  /** Slots in which no job of the usual size fits now. */
  get busy(): number {
    return this.slots - howMany(this.sizes[usualSize], minus(this.capacity, this.#reserved));
  }

  /** The sizes of which a job fits when nothing else runs. */
  get takes(): Size[] {
    return sizeNames.filter((size) => fits(this.sizes[size], this.capacity));
  }

  /** Whether nothing at all fits beside what runs. */
  get full(): boolean {
    const free = minus(this.capacity, this.#reserved);
    return !this.takes.some((size) => fits(this.sizes[size], free));
  }

  get keepsRoomFor(): Size | undefined {
    return this.#kept?.size;
  }

  /** Whether a job of this size could begin now. */
  hasRoom(size: Size): boolean {
    const need = this.sizes[size];
    if (!fits(plus(this.#reserved, need), this.capacity)) return false;
    if (this.#kept === undefined) return true;
    return fits(plus(plus(this.#kept.since, need), this.sizes[this.#kept.size]), this.capacity);
  }

  reserve(size: Size): Reservation | undefined {
    return this.hasRoom(size) ? this.#take(this.sizes[size], this.#kept) : undefined;
  }

  /** For what runs already, also where it does not fit: nothing is reserved then until there is room. */
  take(size: Size): Reservation {
    return this.#take(this.sizes[size], undefined);
  }

  /**
   * From now on others get only what a job of this size leaves of the whole host: it fits at the latest when those that run
   * now have ended. For one at a time.
   */
  keepRoom(size: Size): KeptRoom {
    const need = this.sizes[size];
    const kept: Kept = { size, since: noResources };
    this.#kept = kept;
    return {
      reserve: () => (fits(plus(this.#reserved, need), this.capacity) ? this.#take(need, undefined) : undefined),
      [Symbol.dispose]: () => {
        if (this.#kept === kept) this.#kept = undefined;
      },
    };
  }

  #take(need: Resources, kept: Kept | undefined): Reservation {
    this.#reserved = plus(this.#reserved, need);
    if (kept !== undefined) kept.since = plus(kept.since, need);
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        this.#reserved = minus(this.#reserved, need);
        if (kept !== undefined) kept.since = minus(kept.since, need);
      },
    };
  }
}
