/**
 * The next job of a host: first a reservation for the size of its queue, then the claim; so nothing is ever fetched that
 * cannot run at once, and a queue for which there is no room holds up no other.
 */
import { parseRoutingKey, type RoutingKey } from '../protocol/routing.ts';
import { usualSize, type Size } from '../protocol/size.ts';
import type { Claimed } from './claimed.ts';
import type { Claims } from './claims.ts';
import type { KeptRoom, Ledger, Reservation } from './ledger.ts';
import { Turns } from './turns.ts';

export interface NextJobOptions {
  readonly ledger: Ledger;
  readonly claims: Pick<Claims, 'claim' | 'ready' | 'first' | 'keepRoomFor'>;
  /** Routing keys that this host offers now, all of sizes that it takes; asked anew each time. */
  readonly offers: () => Promise<readonly RoutingKey[]>;
  /** Milliseconds without room after which a job is starving: what gets free is kept for it. */
  readonly patience?: number;
  /** Milliseconds, of any clock that only goes forward. */
  readonly now?: () => number;
}

export interface NextJob {
  readonly claimed: Claimed;
  readonly room: Reservation;
}

const usualPatience = 60_000;

/** Dispose lets go of the room that it keeps. */
export class NextJobs implements Disposable {
  readonly #options: NextJobOptions;
  readonly #turns: Turns;
  #kept: { readonly key: RoutingKey; readonly room: KeptRoom } | undefined;

  constructor(options: NextJobOptions) {
    this.#options = options;
    this.#turns = new Turns(options.patience ?? usualPatience, options.now ?? (() => performance.now()));
  }

  /** Undefined when nothing is there that this host could run now; it begins nothing once `stop` has fired. */
  async next(stop: AbortSignal): Promise<NextJob | undefined> {
    const { claims, ledger, offers } = this.#options;
    const offered = new Set(await offers());
    const ready = (await claims.ready()).filter((key) => offered.has(key));
    await this.#noteRefused(ready);
    await this.#keepRoom(stop);
    for (const key of this.#turns.inTurn(ready, this.#kept?.key)) {
      const room = key === this.#kept?.key ? this.#kept.room.reserve() : ledger.reserve(sizeOf(key));
      const claimed = room === undefined ? undefined : await this.#claimInto(room, key, stop);
      if (room !== undefined && claimed !== undefined) return { claimed, room };
    }
    return undefined;
  }

  [Symbol.dispose](): void {
    this.#stopKeeping();
  }

  async #noteRefused(ready: readonly RoutingKey[]): Promise<void> {
    const { claims, ledger } = this.#options;
    const blocked = new Set(ready.filter((key) => !ledger.hasRoom(sizeOf(key))));
    const asked = ready.map((key) => ({ key, job: this.#turns.refusedOf(key) }));
    const some = asked.filter(({ key, job }) => blocked.has(key) || job !== undefined);
    this.#turns.note(blocked, some.length === 0 ? new Map() : await claims.first(some));
  }

  /** For the one that has starved for longest, unless another host does. */
  async #keepRoom(stop: AbortSignal): Promise<void> {
    const starving = this.#turns.starving();
    const key = starving.length === 0 ? undefined : await this.#options.claims.keepRoomFor(starving);
    if (stop.aborted || key === this.#kept?.key) return;
    this.#stopKeeping();
    if (key !== undefined) this.#kept = { key, room: this.#options.ledger.keepRoom(sizeOf(key)) };
  }

  #stopKeeping(): void {
    this.#kept?.room[Symbol.dispose]();
    this.#kept = undefined;
  }

  async #claimInto(room: Reservation, key: RoutingKey, stop: AbortSignal): Promise<Claimed | undefined> {
    let claimed: Claimed | undefined;
    try {
      claimed = await this.#options.claims.claim(key, stop);
    } finally {
      if (claimed === undefined) room[Symbol.dispose]();
    }
    // begun here or taken by others: the room is not kept any longer, and the queues that come after may have it
    this.#turns.begun(key);
    if (key === this.#kept?.key) this.#stopKeeping();
    return claimed;
  }
}

function sizeOf(key: RoutingKey): Size {
  return parseRoutingKey(key)?.size ?? usualSize;
}
