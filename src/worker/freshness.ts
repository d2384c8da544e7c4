/**
 * Lets a job begin only on an image that is as fresh as it asks. One that is not is refreshed, once for all jobs that
 * ask, and meanwhile they wait in the queue without a slot. What a waiting job waits for is in Redis before it lets go
 * of its slot: a worker that dies in between leaves a job that the next one looks at from the beginning. A Redis that
 * is away or refuses is waited for: its error would be taken for one of ours, and end the job for good.
 */
import type { Freshness } from '../golden/index.ts';
import { Interruption, RefreshFailed, UsageError } from '../protocol/errors.ts';
import type { JobRequest } from '../protocol/job-request.ts';
import { parseWaits, type Waits } from '../protocol/waits.ts';
import type { RedisHandle } from '../redis/connect.ts';
import type { Nudges } from '../redis/nudges.ts';
import { insist } from '../redis/persist.ts';
import type { Claimed } from './claimed.ts';
import type { Claims } from './claims.ts';
import { demandOf, unmetDemand, type Demand } from './freshness-demand.ts';

/** An update-golden run on behalf of jobs; `ended` is absent while it waits or runs. */
export interface Refresh {
  readonly run: string;
  readonly ended?: { readonly host?: string; readonly problem?: string };
}

export interface FreshnessOptions {
  readonly redis: RedisHandle;
  readonly claims: Pick<Claims, 'promote'>;
  readonly nudges: Pick<Nudges, 'listen'>;
  /** This host's name, as outcomes have it. */
  readonly host: string;
  /** Seconds; for jobs that do not say. */
  readonly maxAgeOf: (image: string) => number | undefined;
  /** Undefined where an external server opens it: it has no generations. */
  readonly imageOf: (request: JobRequest) => Promise<Freshness | undefined>;
  /** The refresh that is under way, or ended after `since`; else begins one. Asked again when its answer was lost. */
  readonly ask: (image: string, since: number) => Promise<Refresh>;
  /** Undefined when nobody knows it. */
  readonly look: (run: string) => Promise<Refresh | undefined>;
}

/** Milliseconds after which a waiting job looks again by itself: the news that its refresh has ended may be lost. */
const lookAgain = 60_000;

/** Milliseconds for which a refresh that ended after a job was handed in is good for it, however little it allows. */
const shared = 3_600_000;

/** Refreshes that one job waits for: those of other hosts do not help this one. */
const enough = 3;

export class FreshnessGate implements Disposable {
  readonly #options: FreshnessOptions;
  /** Jobs that wait, by the refresh. */
  readonly #held = new Map<string, Map<string, string>>();
  readonly #silence: () => void;

  constructor(options: FreshnessOptions) {
    this.#options = options;
    this.#silence = options.nudges.listen((said) => {
      if ('ended' in said) void this.#release(said.ended).catch(() => {}); // each looks again by itself
    });
  }

  /** Jobs that this host has put off. */
  get waiting(): number {
    return [...this.#held.values()].reduce((count, held) => count + held.size, 0);
  }

  /**
   * @returns whether it may begin; if not, it is back in the queue
   * @throws {RefreshFailed} {UsageError} what it asks for cannot be had
   */
  async admit(claimed: Claimed, request: JobRequest): Promise<boolean> {
    const { redis, imageOf, maxAgeOf } = this.#options;
    const demand = demandOf(request, maxAgeOf(request.image));
    if (demand === undefined) return true;
    const run = redis.keys.run(claimed.runId);
    const waits = parseWaits(await insist(redis, () => redis.client.hget(run, 'waits')));
    const moments = { submitted: claimed.submitted, asked: waits?.since, shared };
    const look = async (): Promise<Found | undefined> => {
      const image = await imageOf(request);
      if (image === undefined) return refuseExternal(request);
      const unmet = unmetDemand(demand, image, { ...moments, now: Date.now() });
      return unmet === undefined ? undefined : { image, demand, unmet, waits };
    };
    const found = await look();
    if (found !== undefined && (await this.#wait(claimed, request.image, found, look))) return false;
    if (waits !== undefined) await insist(redis, () => redis.client.hdel(run, 'waits'));
    return true;
  }

  [Symbol.dispose](): void {
    this.#silence();
  }

  /** @returns false when it need not wait any more */
  async #wait(
    claimed: Claimed,
    image: string,
    first: Found,
    lookAtImage: () => Promise<Found | undefined>,
  ): Promise<boolean> {
    const since = Math.max(claimed.submitted, Date.now() - shared);
    const known = first.waits === undefined ? undefined : await this.#look(first.waits.run);
    const refresh = known ?? (await this.#ask(image, since));
    const refreshes = first.waits?.refreshes ?? 1;
    if (refresh.ended === undefined) return this.#hold(claimed, image, { ...first, refresh, refreshes });
    const found = await lookAtImage(); // that refresh may have ended after the first look
    if (found === undefined) return false;
    this.#requireHope(image, found, refresh, refreshes);
    // it went well, on another host or too long ago
    const again = await this.#ask(image, Infinity);
    return this.#hold(claimed, image, { ...found, refresh: again, refreshes: refreshes + 1 });
  }

  /** @throws when nothing is to be hoped from another refresh */
  #requireHope(
    image: string,
    { demand, image: state, unmet }: Found,
    { run, ended }: Refresh,
    refreshes: number,
  ): void {
    const stays = `${image}@${state.generation}: ${unmet}`;
    if (ended?.problem !== undefined) throw new RefreshFailed(`${stays}, and update-golden ${run} ${ended.problem}`);
    if (demand.minGeneration !== undefined && state.generation < demand.minGeneration) {
      const nothing = `update-golden ${run} found nothing that would make a newer one`;
      if (ended?.host === this.#options.host) throw new UsageError('minGeneration', `${stays}, and ${nothing}`);
    }
    if (refreshes < enough) return;
    const elsewhere = ended?.host === undefined ? '' : ` on ${ended.host}`;
    throw new RefreshFailed(`${stays} after ${refreshes} refreshes, the last one${elsewhere} by update-golden ${run}`);
  }

  async #hold(claimed: Claimed, image: string, held: Found & { refresh: Refresh; refreshes: number }): Promise<true> {
    const { redis } = this.#options;
    const { runId, key } = claimed;
    const { run } = held.refresh;
    const cancelled = await insist(redis, () => redis.client.get(redis.keys.cancel(runId)));
    if (cancelled !== null) throw new Interruption('cancelled', cancelled);
    const waits: Waits = { v: 1, run, image, since: held.waits?.since ?? Date.now(), refreshes: held.refreshes };
    await insist(redis, () => redis.client.hset(redis.keys.run(runId), 'waits', JSON.stringify(waits)));
    await claimed.leave(lookAgain);
    this.#held.set(run, (this.#held.get(run) ?? new Map<string, string>()).set(runId, key));
    const now = await this.#look(run); // it may have ended before anybody here listened for it
    if (now === undefined || now.ended !== undefined) await this.#release(run);
    return true;
  }

  async #release(run: string): Promise<void> {
    const { redis, claims } = this.#options;
    const held = this.#held.get(run);
    this.#held.delete(run);
    for (const [runId, key] of held ?? []) await insist(redis, () => claims.promote(key, runId));
  }

  #ask(image: string, since: number): Promise<Refresh> {
    return insist(this.#options.redis, () => this.#options.ask(image, since));
  }

  #look(run: string): Promise<Refresh | undefined> {
    return insist(this.#options.redis, () => this.#options.look(run));
  }
}

/** What a job asks for, and what was found. */
interface Found {
  readonly demand: Demand;
  readonly image: Freshness;
  /** Why it does not do. */
  readonly unmet: string;
  readonly waits: Waits | undefined;
}

/** What the configuration asks for is meant for images that can be refreshed. */
function refuseExternal(request: JobRequest): undefined {
  const own = demandOf(request, undefined);
  if (own === undefined) return;
  const asked = own.maxAge === undefined ? 'minGeneration' : 'maxAge';
  throw new UsageError(asked, `${request.image} is opened by an external server: it has no generations, and no age`);
}
