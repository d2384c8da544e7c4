/**
 * Which queue is next. They take turns; but one whose first job has found no room here for longer than the patience is
 * starving: the room is kept for the one that has starved for longest. Only the first job counts: when another host has
 * taken it, the next one has its own patience. No Redis and no clock of its own.
 */
import type { RoutingKey } from '../protocol/routing.ts';

interface Refused {
  readonly job: string;
  readonly since: number;
}

export class Turns {
  readonly #patience: number;
  readonly #now: () => number;
  readonly #refused = new Map<RoutingKey, Refused>();
  #turn = 0;

  /** @param patience milliseconds of `now` */
  constructor(patience: number, now: () => number) {
    this.#patience = patience;
    this.#now = now;
  }

  /** The job that found no room, and waited still when that was asked last. */
  refusedOf(key: RoutingKey): string | undefined {
    return this.#refused.get(key)?.job;
  }

  /**
   * @param blocked queues for whose jobs there is no room now
   * @param first the job that is first in each of them, and in each of which {@link refusedOf} tells; what is not there any
   *   more is forgotten
   */
  note(blocked: ReadonlySet<RoutingKey>, first: ReadonlyMap<RoutingKey, string>): void {
    for (const [key, { job }] of this.#refused) if (first.get(key) !== job) this.#refused.delete(key);
    for (const [key, job] of first) {
      if (blocked.has(key) && !this.#refused.has(key)) this.#refused.set(key, { job, since: this.#now() });
    }
  }

  /** A job of this queue has begun here. */
  begun(key: RoutingKey): void {
    this.#refused.delete(key);
  }

  /** Those that have waited longest come first. */
  starving(): RoutingKey[] {
    const before = this.#now() - this.#patience;
    const long = [...this.#refused].filter(([, { since }]) => since <= before);
    return long.toSorted(([, a], [, b]) => a.since - b.since).map(([key]) => key);
  }

  /** Begins with another each time, so that a busy queue does not hold up the others. @param first is before all of them */
  inTurn(keys: readonly RoutingKey[], first: RoutingKey | undefined): RoutingKey[] {
    const start = keys.length === 0 ? 0 : this.#turn++ % keys.length;
    const turned = [...keys.slice(start), ...keys.slice(0, start)];
    if (first === undefined || !keys.includes(first)) return turned;
    return [first, ...turned.filter((key) => key !== first)];
  }
}
