/** The worker's heartbeat: a member of the sorted set of workers, scored by the time until which it counts. */
import type { Redis } from 'ioredis';
import type { Presence } from '../protocol/presence.ts';
import type { RedisKeys } from '../protocol/routing.ts';
import { within } from '../exec/patience.ts';
import { redisTime } from '../redis/time.ts';
import { fleetTimes } from './fleet-times.ts';
import type { Renewals } from './renewals.ts';

/** Milliseconds for withdrawing it, which Redis may be away from: silence then tells the same a little later. */
const patience = 2_000;

export interface Announced extends AsyncDisposable {
  /** Says it again now. */
  update(): Promise<void>;
  /** Another process goes on with it: from now on it is not withdrawn. */
  passOn(): void;
}

/**
 * @param describe asked anew at each beat @param times milliseconds between beats, and for which one counts @param renewals
 * tells it when this thread is busy
 */
export async function announce(
  redis: Redis,
  keys: RedisKeys,
  describe: () => Presence | Promise<Presence>,
  times: { readonly beat: number; readonly alive: number } = fleetTimes(),
  renewals?: Pick<Renewals, 'keepAlive'>,
): Promise<Announced> {
  const first = await describe();
  const member = `${first.host}/${first.incarnation}`;
  const beat = async (current: Presence): Promise<void> => {
    const until = (await redisTime(redis)) + times.alive;
    await redis
      .multi()
      .zadd(keys.workers, until, member)
      .hset(keys.workerDetails, member, JSON.stringify({ ...current, counts: times.alive }))
      .exec();
  };
  await beat(first);
  const heart = renewals?.keepAlive({ member, beat: times.beat, alive: times.alive });
  let last = first;
  let describing: Promise<void> | undefined;
  const describeAgain = async (): Promise<void> => {
    last = await describe();
  };
  const again = async (): Promise<void> => {
    // that it lives is more important than what it says: what takes long is said with a later beat
    describing ??= describeAgain().finally(() => (describing = undefined));
    await within(describing, times.beat / 4, () => new Error('late')).catch(() => {});
    await beat(last);
    heart?.beaten();
  };
  // a missed beat is not an error: the next one, or the end of the worker, tells
  const timer = setInterval(() => void again().catch(() => {}), times.beat);
  let ours = true;
  return {
    update: again,
    passOn: () => void (ours = false),
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      heart?.[Symbol.dispose]();
      if (!ours) return;
      const withdrawn = redis.multi().zrem(keys.workers, member).hdel(keys.workerDetails, member).exec();
      await within(withdrawn, patience, () => new Error('late')).catch(() => {});
    },
  };
}

/** The incarnations whose heartbeat counts. */
export async function liveIncarnations(redis: Redis, keys: RedisKeys): Promise<ReadonlySet<string>> {
  const members = await redis.zrangebyscore(keys.workers, await redisTime(redis), '+inf');
  return new Set(members.map((member) => member.slice(member.lastIndexOf('/') + 1)));
}

/** Of a worker that runs, or ran of late. */
export async function hostOf(redis: Redis, keys: RedisKeys, incarnation: string): Promise<string | undefined> {
  const members = await redis.zrangebyscore(keys.workers, '-inf', '+inf');
  return members.find((member) => member.endsWith(`/${incarnation}`))?.slice(0, -incarnation.length - 1);
}

/** Takes out workers that have been silent for so many milliseconds. */
export async function forgetSilent(redis: Redis, keys: RedisKeys, silent: number): Promise<void> {
  const before = (await redisTime(redis)) - silent;
  const members = await redis.zrangebyscore(keys.workers, '-inf', before);
  if (members.length === 0) return;
  await redis
    .multi()
    .zrem(keys.workers, ...members)
    .hdel(keys.workerDetails, ...members)
    .exec();
}
