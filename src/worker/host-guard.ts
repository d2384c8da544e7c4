/**
 * What keeps a host from taking a job that it could run: an operator has drained it or paused the image, its testbeds keep
 * failing, or the job failed here before and another host is there.
 */
import { parseRoutingKey, type RoutingKey } from '../protocol/routing.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { pausedNow } from '../redis/paused.ts';
import { persist } from '../redis/persist.ts';
import { leaveToOthers, noteFailedOn } from './avoid.ts';
import type { Breaker } from './breaker.ts';
import type { Claimed } from './claimed.ts';
import type { Ending } from './handle.ts';

/** Milliseconds for which a job that is left to the other hosts cannot be claimed. */
const leaveFor = 1_000;

export class HostGuard {
  readonly #redis: RedisHandle;
  readonly #host: string;
  readonly #breaker: Breaker;

  constructor(redis: RedisHandle, host: string, breaker: Breaker) {
    this.#redis = redis;
    this.#host = host;
    this.#breaker = breaker;
  }

  /** Those of the keys from which the host takes jobs now. */
  async allowed(keys: readonly RoutingKey[]): Promise<readonly RoutingKey[]> {
    const { client, keys: names } = this.#redis;
    // together: it is asked before each claim
    const [drained, paused] = await Promise.all([client.hexists(names.drained, this.#host), pausedNow(this.#redis)]);
    if (drained === 1) return [];
    return keys.filter((key) => {
      const parts = parseRoutingKey(key);
      if (parts === undefined || paused.has(`image:${parts.image}`)) return false;
      return this.#breaker.allows(parts.image, parts.backend);
    });
  }

  /** Why the host takes no job of any kind now; undefined when it does. */
  async notReady(): Promise<string | undefined> {
    const drained = await this.#redis.client.hget(this.#redis.keys.drained, this.#host);
    return drained === null ? this.#breaker.hostTrouble() : 'drained';
  }

  /** @param run takes the job to its end */
  async run(claimed: Claimed, run: () => Promise<Ending>): Promise<void> {
    const { image = '', backend = '' } = parseRoutingKey(claimed.key) ?? {};
    this.#breaker.began(image, backend);
    const here = { host: this.#host, image };
    if (await persist(this.#redis, () => leaveToOthers(this.#redis, claimed.runId, here))) {
      return claimed.leave(leaveFor).catch(() => {}); // lost: then it is with the others already
    }
    await this.ended(claimed, await run());
  }

  /** For a job that began in another process, too. */
  async ended({ key, runId }: Pick<Claimed, 'key' | 'runId'>, ending: Ending): Promise<void> {
    const { image = '', backend = '' } = parseRoutingKey(key) ?? {};
    if (ending.kind === 'completed') this.#breaker.succeeded(image, backend);
    if (ending.kind !== 'testbed') return;
    this.#breaker.failed(image, backend, ending.message);
    await persist(this.#redis, () => noteFailedOn(this.#redis, runId, this.#host));
  }
}
