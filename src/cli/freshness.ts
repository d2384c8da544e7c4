/** Joins what keeps images fresh: the store and the policy of this host, the refreshes of the producer, the worker. */
import { strategyFor } from '../config/policy.ts';
import { debianArchitecture } from '../exec/debian-architecture.ts';
import { freshnessOf, imageNames } from '../golden/index.ts';
import { messageOf } from '../protocol/errors.ts';
import { refreshRequest } from '../protocol/job-request.ts';
import { enqueue } from '../producer/enqueue.ts';
import { askForRefresh, showRefresh } from '../producer/refresh.ts';
import { listSchedules, removeSchedule, setSchedule } from '../producer/schedules.ts';
import type { RedisHandle } from '../redis/connect.ts';
import type { Nudges } from '../redis/nudges.ts';
import { persist } from '../redis/persist.ts';
import type { Claimed } from '../worker/claimed.ts';
import type { Claims } from '../worker/claims.ts';
import { FreshnessGate } from '../worker/freshness.ts';
import type { Log } from '../worker/handle.ts';
import { beginScheduled } from '../worker/scheduled.ts';
import { configuredBy, configuredSchedules } from './configured-schedules.ts';
import type { Context } from './context.ts';
import { knownImages } from './offers.ts';

export function freshnessGate(
  { settings, state }: Context,
  { redis, claims, nudges, host }: { redis: RedisHandle; claims: Claims; nudges: Nudges; host: string },
): FreshnessGate {
  const { policy } = settings.images;
  const request = (image: string) => refreshRequest(image, strategyFor(policy, image));
  return new FreshnessGate({
    redis,
    claims,
    nudges,
    host,
    maxAgeOf: (image) => policy[image]?.maxAge,
    async imageOf({ image, backend }) {
      const external = settings.external[image] !== undefined && ['any', 'external'].includes(backend);
      return external ? undefined : freshnessOf(state, image);
    },
    ask: async (image, since) => askForRefresh(redis, request(image), await debianArchitecture(), since),
    look: (run) => showRefresh(redis, run),
  });
}

export function beginOnSchedule(claimed: Claimed, redis: RedisHandle, log: Log): Promise<void> {
  const begin = async (request: Parameters<typeof enqueue>[1]): Promise<string> =>
    (await enqueue(redis, request, await debianArchitecture())).runId;
  return beginScheduled(claimed, begin, log);
}

/**
 * Makes the schedules what the configuration of this host says. What cannot be is told, and stops nothing: neither
 * another schedule nor the worker, which may have adopted jobs by now.
 */
export async function applySchedules(context: Context, redis: RedisHandle, log: Log): Promise<void> {
  const wanted = configuredSchedules(context.settings);
  const known = await knownImages(context);
  const arch = await debianArchitecture();
  for (const schedule of wanted) {
    const { image } = schedule;
    const key = `images.policy.${image}`;
    try {
      if (!known.includes(image)) log(`${key}: there is no image ${image} on this host; it gets no schedule`);
      else if (context.settings.external[image] !== undefined)
        log(`${key}: ${image} is opened by an external server and cannot be refreshed; it gets no schedule`);
      else await persist(redis, () => setSchedule(redis, schedule, arch));
    } catch (error) {
      log(`${key}: ${messageOf(error)}`);
    }
  }
  try {
    for (const { image, by } of await persist(redis, () => listSchedules(redis))) {
      const gone = by === configuredBy(context.settings) && !wanted.some((one) => one.image === image);
      if (gone) await persist(redis, () => removeSchedule(redis, image));
    }
  } catch (error) {
    log(`schedules that the configuration asks for no more may be left: ${messageOf(error)}`);
  }
}

/** When each image of this host was last refreshed or found up to date; without those that go away in this moment. */
export async function refreshTimes(state: Context['state']): Promise<ReadonlyMap<string, number>> {
  const found = new Map<string, number>();
  for (const image of await imageNames(state)) {
    const freshness = await freshnessOf(state, image).catch(() => undefined);
    if (freshness !== undefined) found.set(image, freshness.looked);
  }
  return found;
}
