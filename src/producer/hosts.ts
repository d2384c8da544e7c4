/** The hosts of the fleet: what they offer, and whether they take jobs. */
import { UsageError } from '../protocol/errors.ts';
import { parseHeldBack } from '../protocol/paused.ts';
import type { Drained } from '../protocol/presence.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { nudge } from '../redis/nudges.ts';
import { knownWorkers, type KnownWorker } from './workers.ts';

export interface HostDetails {
  readonly host: string;
  /** Its workers, most often one; none where only an operator's word is known of it. */
  readonly workers: readonly KnownWorker[];
  /** Where none runs: those that fell silent within a day, having said nothing of an end. */
  readonly silent: readonly KnownWorker[];
  /** Set while an operator keeps it from taking jobs. */
  readonly drained?: Drained;
}

/** Milliseconds for which a silent host is shown. */
const shownSilent = 86_400_000;

/** When the last heartbeat of any of its workers came (ms since the epoch). */
export function lastHeard({ workers, silent }: Pick<HostDetails, 'workers' | 'silent'>): number | undefined {
  const times = [...workers, ...silent].map(({ heard }) => heard);
  return times.length === 0 ? undefined : Math.max(...times);
}

/** Sorted by name. */
export async function listHosts(redis: RedisHandle): Promise<HostDetails[]> {
  const workers = await knownWorkers(redis.client, redis.keys, shownSilent);
  const drained = await drainedHosts(redis);
  const names = [...new Set([...workers.map(({ host }) => host), ...drained.keys()])].toSorted();
  return names.map((host) => {
    const said = drained.get(host);
    const own = workers.filter((worker) => worker.host === host);
    const live = own.filter((worker) => worker.live);
    return {
      host,
      workers: live,
      silent: live.length > 0 ? [] : own,
      ...(said === undefined ? {} : { drained: said }),
    };
  });
}

/** @throws {UsageError} which hosts there are */
export async function findHost(redis: RedisHandle, name: string): Promise<HostDetails> {
  const hosts = await listHosts(redis);
  const found = hosts.find(({ host }) => host === name);
  if (found !== undefined) return found;
  const known = hosts.map(({ host }) => host).join(', ');
  throw new UsageError(name, `no host "${name}" (${known === '' ? 'no worker is running' : `known: ${known}`})`);
}

/** It takes no more jobs; what runs on it goes on. Holds until {@link resumeHost}, whatever becomes of its workers. */
export async function drainHost(redis: RedisHandle, host: string, reason: string): Promise<void> {
  await redis.client.hset(redis.keys.drained, host, JSON.stringify({ reason, since: Date.now() } satisfies Drained));
  await nudge(redis, { host });
}

/** @returns whether it was drained */
export async function resumeHost(redis: RedisHandle, host: string): Promise<boolean> {
  const removed = await redis.client.hdel(redis.keys.drained, host);
  await nudge(redis, { host });
  return removed === 1;
}

async function drainedHosts({ client, keys }: RedisHandle): Promise<ReadonlyMap<string, Drained>> {
  const told = Object.entries(await client.hgetall(keys.drained));
  return new Map(told.map(([host, text]) => [host, parseHeldBack(text)]));
}
