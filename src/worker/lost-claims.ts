/**
 * Claims whose worker is gone: its heartbeat is missing, or the lock has run out and nobody took it again. Judged by what
 * was seen without a break: after an outage of Redis every heartbeat has run out, and every worker lives.
 */
import type { RoutingKey } from '../protocol/routing.ts';
import type { RedisHandle } from '../redis/connect.ts';
import type { Claims } from './claims.ts';
import type { Log } from './handle.ts';
import { busyKeys, heldJobs, type Held } from '../redis/held.ts';
import { liveIncarnations } from './presence.ts';

export interface Patience {
  readonly every: number;
  readonly deadAfter: number;
  readonly regroup: number;
  readonly unlockedAfter: number;
}

export class LostClaims {
  readonly #redis: RedisHandle;
  readonly #claims: Pick<Claims, 'giveBackToken' | 'giveBackUnlocked'>;
  readonly #patience: Patience;
  readonly #log: Log;
  /** Since when (ms, our clock) something is seen missing: an incarnation, or a job's lock. */
  #missing = new Map<string, number>();
  #lastLook = -Infinity;
  /** Since when (ms, our clock) it looks without a break. */
  #lookingSince = -Infinity;
  #connection: unknown;

  constructor(
    redis: RedisHandle,
    claims: Pick<Claims, 'giveBackToken' | 'giveBackUnlocked'>,
    patience: Patience,
    log: Log,
  ) {
    this.#redis = redis;
    this.#claims = claims;
    this.#patience = patience;
    this.#log = log;
  }

  /** What was seen so far counts no more. */
  forget(): void {
    this.#missing.clear();
  }

  async giveBack(keys: readonly RoutingKey[]): Promise<void> {
    const held: (Held & { readonly key: RoutingKey })[] = [];
    for (const key of await busyKeys(this.#redis, keys)) {
      for (const job of await heldJobs(this.#redis, key)) held.push({ ...job, key });
    }
    const live = await liveIncarnations(this.#redis.client, this.#redis.keys);
    this.#requireContinuity(); // the questions, too, may have waited for Redis to come back
    const seen = new Map<string, number>();
    for (const { key, id, token } of held) await this.#look(key, id, token, live, seen);
    this.#missing = seen; // whatever came back, or is gone, begins anew
  }

  async #look(
    key: RoutingKey,
    id: string,
    token: string | undefined,
    live: ReadonlySet<string>,
    seen: Map<string, number>,
  ): Promise<void> {
    const owner = token?.split('.')[0];
    if (owner !== undefined && live.has(owner)) return;
    const what = owner ?? `${key} ${id}`;
    const since = this.#missing.get(what) ?? performance.now();
    seen.set(what, since);
    const { deadAfter, unlockedAfter, regroup } = this.#patience;
    if (performance.now() - since < (token === undefined ? unlockedAfter : deadAfter)) return;
    if (performance.now() - this.#lookingSince < regroup) return;
    if (token === undefined) {
      if (await this.#claims.giveBackUnlocked(key, id)) this.#log(`${id}: given back, nobody held it any more`);
    } else {
      const given = await this.#claims.giveBackToken(key, token);
      for (const runId of given) this.#log(`${runId}: given back, its worker ${owner ?? ''} is silent`);
    }
  }

  /**
   * A gap between two looks, or a new connection: nothing is known of the time between, and whoever was away as well needs a
   * while to come back.
   */
  #requireContinuity(): void {
    const now = performance.now();
    const { stream } = this.#redis.client;
    if (now - this.#lastLook > 4 * this.#patience.every || stream !== this.#connection) {
      this.forget();
      this.#lookingSince = now;
    }
    this.#lastLook = now;
    this.#connection = stream;
  }
}
