/**
 * The right to write an image, fleet-wide: a key in Redis with a time to live, and a fencing token that only grows. The
 * lease gives liveness and order; safety is the store's, which refuses every fence but the highest it has seen.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { LeaseLost } from '../protocol/errors.ts';
import { GoldenRefusal } from '../protocol/testbed.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { persist } from '../redis/persist.ts';
import { unlessAborted, within } from '../exec/patience.ts';
import type { FenceSource, WriteLease } from './fence-source.ts';

/**
 * KEYS: lease, fence counter. ARGV: owner, time to live (ms), floor. Returns the fence, or nil when it is held. Sent twice
 * (ioredis does so when the connection broke before the reply), it finds itself the owner: the counter is then its fence.
 */
const acquireScript = `
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then return tonumber(redis.call('GET', KEYS[2])) end
if holder then return nil end
local fence = redis.call('INCR', KEYS[2])
if fence <= tonumber(ARGV[3]) then
  fence = tonumber(ARGV[3]) + 1
  redis.call('SET', KEYS[2], fence)
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return fence`;

/** KEYS: lease. ARGV: owner, time to live. Returns 1, or 0 when it is no longer ours. */
const renewScript = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`;

const releaseScript = `
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`;

export interface RedisLeaseOptions {
  /** For people: who writes. */
  readonly owner: string;
  /** Milliseconds that a lease lives without renewal; default 60 s. */
  readonly ttl?: number;
  /** Milliseconds to wait for another writer; default: as long as it takes. */
  readonly wait?: number;
}

/** Milliseconds that the end of a holder waits for its release; the lease runs out by itself. */
const releaseLimit = 2000;

/** Milliseconds between two tries while somebody else writes. */
const retryEvery = 250;

export function redisLeases(redis: RedisHandle, options: RedisLeaseOptions): FenceSource {
  const { ttl = 60_000, wait = Infinity } = options;
  return {
    async acquire(image, floor, signal) {
      const owner = JSON.stringify({ owner: options.owner, id: randomUUID(), since: Date.now() });
      const keys = [redis.keys.lease(image), redis.keys.fence(image)] as const;
      const limit = performance.now() + wait;
      const waits = redis.keys.leaseWaits(image);
      using _ = { [Symbol.dispose]: () => void redis.client.zrem(waits, owner).catch(() => {}) };
      for (;;) {
        signal.throwIfAborted();
        const asked = performance.now();
        const ask = () => redis.client.eval(acquireScript, 2, ...keys, owner, ttl, floor) as Promise<number | null>;
        const asking = persist(redis, ask);
        const fence = await unlessAborted(asking, signal).catch((error: unknown) => {
          void asking.then(() => release(redis, image, owner)).catch(() => {}); // nobody would hold it
          throw error;
        });
        if (fence !== null) return hold(redis, image, owner, fence, ttl, asked);
        if (performance.now() >= limit) throw await locked(redis, image);
        void redis.client.zadd(waits, Date.now(), owner).catch(() => {});
        await delay(retryEvery, undefined, { signal }).catch(() => {});
      }
    },
  };
}

export interface LeaseInfo {
  readonly owner: string;
  /** Milliseconds since the epoch. */
  readonly since: number;
  readonly fence: number;
  /** Who waits for it, the first one first. */
  readonly waiting: readonly { readonly owner: string; readonly since: number }[];
}

/** Milliseconds after which one that has not tried again waits no more: it tries every {@link retryEvery}. */
const waitCounts = 10_000;

/** Who writes the image now. */
export async function showLease(redis: RedisHandle, image: string): Promise<LeaseInfo | undefined> {
  const [lease, fence] = await redis.client.mget(redis.keys.lease(image), redis.keys.fence(image));
  if (!lease) return undefined;
  const waits = await redis.client.zrangebyscore(redis.keys.leaseWaits(image), Date.now() - waitCounts, '+inf');
  const waiting = waits.map((text) => ownerOf(text)).toSorted((a, b) => a.since - b.since);
  return { ...ownerOf(lease), fence: Number(fence ?? 0), waiting };
}

/** Every image that somebody writes, wherever, by name. */
export async function listLeases(redis: RedisHandle): Promise<(LeaseInfo & { readonly image: string })[]> {
  const prefix = redis.keys.lease('');
  const images = new Set<string>(); // SCAN may tell of one twice
  const match = `${prefix.replaceAll(/[\\*?[\]]/g, String.raw`\$&`)}*`;
  for await (const keys of redis.client.scanStream({ match, count: 10_000 }) as AsyncIterable<string[]>) {
    for (const key of keys) images.add(key.slice(prefix.length));
  }
  const found = [];
  for (const image of [...images].toSorted()) {
    const lease = await showLease(redis, image);
    if (lease !== undefined) found.push({ image, ...lease });
  }
  return found;
}

function ownerOf(text: string): { readonly owner: string; readonly since: number } {
  const { owner, since } = JSON.parse(text) as { owner: string; since: number };
  return { owner, since };
}

/**
 * Takes the lease from whoever has it. Safe at any time: the next writer gets a greater fence, and the store then refuses
 * the present one. @returns what was broken
 */
export async function breakLease(redis: RedisHandle, image: string): Promise<LeaseInfo | undefined> {
  const lease = await showLease(redis, image);
  await redis.client.del(redis.keys.lease(image));
  return lease;
}

function hold(redis: RedisHandle, image: string, owner: string, fence: number, ttl: number, asked: number): WriteLease {
  const key = redis.keys.lease(image);
  const lost = new AbortController();
  let lastSuccess = asked;
  const lose = (why: string): void => lost.abort(new LeaseLost(`the lease on ${image} was lost: ${why}`));
  const renew = async (): Promise<void> => {
    const began = performance.now();
    const renewed = await redis.client.eval(renewScript, 1, key, owner, ttl);
    if (Number(renewed) === 1) lastSuccess = began;
    else lose('it ran out, or somebody broke it');
  };
  const renewals = setInterval(() => void renew().catch(() => {}), ttl / 4);
  // counted on our own clock from before the last successful request: Redis can only have expired it later
  const watch = setInterval(() => {
    if (performance.now() - lastSuccess >= ttl) lose(`not renewed for ${Math.round(ttl / 1000)} s`);
  }, ttl / 20);
  return {
    fence,
    signal: lost.signal,
    async [Symbol.asyncDispose]() {
      clearInterval(renewals);
      clearInterval(watch);
      await within(release(redis, image, owner), releaseLimit, () => new Error('late')).catch(() => {});
    },
  };
}

async function release(redis: RedisHandle, image: string, owner: string): Promise<void> {
  await redis.client.eval(releaseScript, 1, redis.keys.lease(image), owner);
}

async function locked(redis: RedisHandle, image: string): Promise<GoldenRefusal> {
  const info = await showLease(redis, image);
  return new GoldenRefusal(
    'golden-locked',
    `${info?.owner ?? 'somebody'} is writing ${image} (fence ${info?.fence ?? '?'})`,
  );
}
