/**
 * What keeps a host from taking a job that it could run: an operator has drained it or paused the image, its disk is full,
 * its testbeds keep failing or have not shown yet that they work, or the job failed here before and another host is there.
 */
import { messageOf } from '../protocol/errors.ts';
import { parseRoutingKey, type RoutingKey } from '../protocol/routing.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { pausedNow } from '../redis/paused.ts';
import { insist } from '../redis/persist.ts';
import { leaveToOthers, noteFailedOn } from './avoid.ts';
import type { Breaker } from './breaker.ts';
import type { Claimed } from './claimed.ts';
import type { Ending, Log } from './handle.ts';
import type { RanOn } from './host.ts';
import { SlowStart } from './slow-start.ts';

/** Milliseconds for which a job that is left to the other hosts cannot be claimed. */
const leaveFor = 1_000;

export interface GuardOptions {
  readonly redis: RedisHandle;
  /** This host's name. */
  readonly host: string;
  readonly breaker: Breaker;
  readonly slowStart?: SlowStart;
  /** Why nothing at all can begin here now. */
  readonly obstacle?: () => Promise<string | undefined>;
  /** What a job on this image would run on now; undefined when nothing would. @param backend may be `any` */
  readonly expected?: (image: string, backend: string) => Promise<RanOn | undefined>;
  readonly log?: Log;
}

export class HostGuard {
  readonly #options: GuardOptions;
  readonly #slowStart: SlowStart;
  /** As it was when the queue was last allowed: a job that is claimed from it is a probe of that. */
  readonly #expected = new Map<RoutingKey, RanOn | undefined>();

  constructor(options: GuardOptions) {
    this.#options = options;
    this.#slowStart = options.slowStart ?? new SlowStart();
  }

  /** Those of the keys from which the host takes jobs now. */
  async allowed(keys: readonly RoutingKey[]): Promise<readonly RoutingKey[]> {
    const { redis, host, breaker, obstacle } = this.#options;
    if (!this.#slowStart.room || !breaker.allowsHost()) return [];
    // together: it is asked before each claim
    const [drained, paused, missing] = await Promise.all([
      redis.client.hexists(redis.keys.drained, host),
      pausedNow(redis),
      obstacle?.(),
    ]);
    if (drained === 1 || missing !== undefined) return [];
    const open = keys.filter((key) => {
      const parts = parseRoutingKey(key);
      return parts !== undefined && !paused.has(`image:${parts.image}`);
    });
    return breaker.watches ? this.#unlessBroken(open) : open;
  }

  /** Calls back when more may be allowed than before. @returns how to stop */
  listen(each: () => void): () => void {
    return this.#slowStart.listen(each);
  }

  /** Why the host takes no job of any kind now; undefined when it does. */
  async notReady(): Promise<string | undefined> {
    const { redis, host, breaker, obstacle } = this.#options;
    const drained = await redis.client.hget(redis.keys.drained, host);
    return drained === null ? ((await obstacle?.()) ?? breaker.hostTrouble()) : 'drained';
  }

  /** What is held back of its own accord, and why, for people: each begins with what it is about. */
  async troubles(): Promise<string[]> {
    const missing = await this.#options.obstacle?.();
    return [...(missing === undefined ? [] : [`this host: ${missing}`]), ...this.#options.breaker.troubles()];
  }

  /** Never rejects. @param run takes the job to its end */
  async run(claimed: Claimed, run: () => Promise<Ending>): Promise<void> {
    // before anything is waited for: the next claim may be asked for meanwhile
    const trial = this.#options.breaker.began(this.#expected.get(claimed.key));
    const risk = this.#slowStart.began();
    let ending: Ending = { kind: 'other' };
    try {
      if (await this.#leaves(claimed)) return await claimed.leave(leaveFor);
      ending = await run();
    } catch (error) {
      this.#log(`${claimed.runId}: ${messageOf(error)}`); // lost: then it is with the others already
    } finally {
      trial.ended(ending);
      risk.ended(riskOf(ending));
      await this.#noteFailure(claimed.runId, ending);
    }
  }

  /** Of a job that began in another process of this worker. */
  async ended({ runId }: Pick<Claimed, 'runId'>, ending: Ending): Promise<void> {
    this.#options.breaker.began().ended(ending);
    this.#slowStart.began().ended(riskOf(ending));
    await this.#noteFailure(runId, ending);
  }

  /** An update may be what mends an image: it is tried unless the whole host is held back. */
  async #unlessBroken(keys: readonly RoutingKey[]): Promise<readonly RoutingKey[]> {
    const { breaker, expected } = this.#options;
    const asked = new Map<string, Promise<RanOn | undefined>>();
    const allowed: RoutingKey[] = [];
    for (const key of keys) {
      const { kind, image = '', backend = '' } = parseRoutingKey(key) ?? {};
      const question = `${image} ${backend}`;
      const answer = asked.get(question) ?? expected?.(image, backend) ?? Promise.resolve(undefined);
      asked.set(question, answer);
      const on = await answer;
      if (on !== undefined && kind !== 'update-golden' && !breaker.allows(on)) continue;
      this.#expected.set(key, on);
      allowed.push(key);
    }
    return allowed;
  }

  async #leaves({ runId, key }: Claimed): Promise<boolean> {
    const { redis, host } = this.#options;
    const here = { host, image: parseRoutingKey(key)?.image ?? '' };
    try {
      return await insist(redis, () => leaveToOthers(redis, runId, here));
    } catch (error) {
      this.#log(`${runId}: cannot see where it failed: ${messageOf(error)}`);
      return false;
    }
  }

  async #noteFailure(runId: string, { kind }: Ending): Promise<void> {
    if (kind !== 'testbed' && kind !== 'host') return;
    const { redis, host } = this.#options;
    try {
      await insist(redis, () => noteFailedOn(redis, runId, host));
    } catch (error) {
      this.#log(`${runId}: cannot note where it failed: ${messageOf(error)}`);
    }
  }

  #log(line: string): void {
    this.#options.log?.(line);
  }
}

function riskOf({ kind }: Ending): 'well' | 'badly' | 'otherwise' {
  if (kind === 'completed') return 'well';
  return kind === 'testbed' || kind === 'host' ? 'badly' : 'otherwise';
}
