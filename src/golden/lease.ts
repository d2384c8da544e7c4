/**
 * The right to write an image, fleet-wide: a key in Redis with a time to live, and a fencing token that only grows. The
 * lease gives liveness and order; safety is the store's, which refuses every fence but the highest it has seen.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { ImageLeaseLost } from '../protocol/errors.ts';
import { GoldenRefusal } from '../protocol/testbed.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { ownerOf, showLease, waitCounts, type LeaseInfo } from '../redis/lease-view.ts';
import { persist } from '../redis/persist.ts';
import { unlessAborted, within } from '../exec/patience.ts';
import type { FenceSource, WriteLease } from './fence-source.ts';

/**
 * The text of a lease is JSON that begins with `mine`, which is its holder's alone, and ends with since when: that is known
 * when the lease is got, however long somebody waited for it.
 */
const ownership = `
local function isMine(text, mine) return text and string.sub(text, 1, string.len(mine)) == mine end`;

/** Milliseconds since the epoch, by Redis's clock: those of hosts differ. */
const clock = `
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))`;

/**
 * KEYS: lease, fence counter. ARGV: mine, time to live (ms), floor. Returns the fence, or 0 when it is held, and the time. Sent
 * twice (ioredis does so when the connection broke before the reply), it finds itself the owner: the counter is then its fence.
 */
const acquireScript = `${ownership}${clock}
local holder = redis.call('GET', KEYS[1])
if isMine(holder, ARGV[1]) then return {tonumber(redis.call('GET', KEYS[2])), tonumber(now)} end
if holder then return {0, tonumber(now)} end
local fence = redis.call('INCR', KEYS[2])
if fence <= tonumber(ARGV[3]) then
  fence = tonumber(ARGV[3]) + 1
  redis.call('SET', KEYS[2], fence)
end
redis.call('SET', KEYS[1], ARGV[1] .. ',"since":' .. now .. '}', 'PX', ARGV[2])
return {fence, tonumber(now)}`;

/** KEYS: lease. ARGV: mine, time to live. Returns 1, or 0 when it is no longer ours. */
const renewScript = `${ownership}
if not isMine(redis.call('GET', KEYS[1]), ARGV[1]) then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`;

/** KEYS: lease, fence counter. ARGV: the only fence to break, or 0 for any. Returns owner and fence, or nil. */
const breakScript = `
local holder = redis.call('GET', KEYS[1])
local fence = tonumber(redis.call('GET', KEYS[2])) or 0
if not holder or (tonumber(ARGV[1]) ~= 0 and tonumber(ARGV[1]) ~= fence) then return nil end
redis.call('DEL', KEYS[1])
return {holder, fence}`;

/** KEYS: who waits. ARGV: who, and since when; milliseconds that a wait counts. Those of the dead go with the next who waits. */
const waitScript = `${clock}
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('ZADD', KEYS[1], now, ARGV[1])
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`;

/** KEYS: lease. ARGV: mine. */
const releaseScript = `${ownership}
if isMine(redis.call('GET', KEYS[1]), ARGV[1]) then return redis.call('DEL', KEYS[1]) end
return 0`;

export { showLease, type LeaseInfo };

export interface RedisLeaseOptions {
  /** For people: who writes. */
  readonly owner: string;
  /** Milliseconds that a lease lives without renewal; default 60 s. */
  readonly ttl?: number;
  /** Milliseconds to wait for another writer; default: as long as it takes. */
  readonly wait?: number;
  /** Told once, if there is somebody to wait for. */
  readonly onWait?: (line: string) => void;
}

/** Milliseconds that the end of a holder waits for its release; the lease runs out by itself. */
const releaseLimit = 2000;

/** Milliseconds between two tries while somebody else writes. */
const retryEvery = 250;

export function redisLeases(redis: RedisHandle, options: RedisLeaseOptions): FenceSource {
  const { ttl = 60_000, wait = Infinity } = options;
  return {
    async acquire(image, floor, signal) {
      const mine = JSON.stringify({ owner: options.owner, id: randomUUID() }).slice(0, -1);
      const keys = [redis.keys.lease(image), redis.keys.fence(image)] as const;
      const limit = performance.now() + wait;
      const waits = redis.keys.leaseWaits(image);
      let waiter: string | undefined;
      const leave = (): void => void (waiter && redis.client.zrem(waits, waiter).catch(() => {}));
      using _ = { [Symbol.dispose]: leave };
      for (;;) {
        signal.throwIfAborted();
        const asked = performance.now();
        const ask = () => redis.client.eval(acquireScript, 2, ...keys, mine, ttl, floor) as Promise<[number, number]>;
        const asking = persist(redis, ask);
        const [fence, now] = await unlessAborted(asking, signal).catch((error: unknown) => {
          void asking.then(() => release(redis, image, mine)).catch(() => {}); // nobody would hold it
          throw error;
        });
        if (fence > 0) return hold(redis, image, mine, fence, ttl, asked);
        if (performance.now() >= limit) throw await locked(redis, image);
        if (waiter === undefined) options.onWait?.(await waitsFor(redis, image, signal));
        waiter ??= `${mine},"since":${now}}`;
        void redis.client.eval(waitScript, 1, waits, waiter, waitCounts).catch(() => {});
        await delay(retryEvery, undefined, { signal }).catch(() => {});
      }
    },
  };
}

/**
 * Takes the lease from whoever has it. Safe at any time: the next writer gets a greater fence, and the store then refuses
 * the present one. @param fence only if it has this one @returns what was broken
 */
export async function breakLease(
  redis: RedisHandle,
  image: string,
  fence = 0,
): Promise<Pick<LeaseInfo, 'owner' | 'fence'> | undefined> {
  const keys = [redis.keys.lease(image), redis.keys.fence(image)] as const;
  const broken = (await redis.client.eval(breakScript, 2, ...keys, fence)) as [string, number] | null;
  return broken === null ? undefined : { owner: ownerOf(broken[0]).owner, fence: broken[1] };
}

async function waitsFor(redis: RedisHandle, image: string, signal: AbortSignal): Promise<string> {
  const info = await unlessAborted(showLease(redis, image), signal).catch(() => undefined);
  return `waits for ${info?.owner ?? 'somebody'}, who writes ${image} in the fleet`;
}

function hold(redis: RedisHandle, image: string, mine: string, fence: number, ttl: number, asked: number): WriteLease {
  const key = redis.keys.lease(image);
  const lost = new AbortController();
  let lastSuccess = asked;
  const lose = (why: string): void => lost.abort(new ImageLeaseLost(`the lease on ${image} was lost: ${why}`));
  const renew = async (): Promise<void> => {
    const began = performance.now();
    const renewed = await redis.client.eval(renewScript, 1, key, mine, ttl);
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
      await within(release(redis, image, mine), releaseLimit, () => new Error('late')).catch(() => {});
    },
  };
}

async function release(redis: RedisHandle, image: string, mine: string): Promise<void> {
  await redis.client.eval(releaseScript, 1, redis.keys.lease(image), mine);
}

async function locked(redis: RedisHandle, image: string): Promise<GoldenRefusal> {
  const info = await showLease(redis, image);
  return new GoldenRefusal(
    'golden-locked',
    `${info?.owner ?? 'somebody'} is writing ${image} (fence ${info?.fence ?? '?'})`,
  );
}
