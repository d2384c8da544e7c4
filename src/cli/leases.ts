/** The right to write an image: as jobs and commands ask for it, and as people are told of it. */
import { existsSync } from 'node:fs';
import type { State } from '../config/state.ts';
import { bothLeases, localLeases, localWriters, type FenceSource, type LocalWriters } from '../golden/index.ts';
import { redisLeases, showLease, type LeaseInfo } from '../golden/lease.ts';
import { UsageError } from '../protocol/errors.ts';
import type { RedisHandle } from '../redis/connect.ts';
import type { Context } from './context.ts';
import { progress } from './print.ts';

/** For a worker's jobs, each in its own name: on this host, then in the fleet. */
export function jobLeases(
  state: State,
  redis: RedisHandle,
  ttl: number,
  log: (line: string) => void,
): (job: string) => FenceSource {
  return (job) => {
    const onWait = (line: string): void => log(`${job} ${line}`);
    return bothLeases(localLeases(state, { by: job, ttl, onWait }), redisLeases(redis, { owner: job, ttl, onWait }));
  };
}

/** For a command that writes by itself. @param wait as its option says it, in whole seconds @throws {UsageError} */
export function commandLeases(state: State, by: string, wait: string): FenceSource {
  if (!/^\d{1,6}$/.test(wait)) throw new UsageError('--lock-wait', '--lock-wait: expected whole seconds');
  return localLeases(state, { by, wait: Number(wait) * 1000, onWait: (line) => progress(`goldbed: ${line}`) });
}

/** One who has the right to write an image, or waits for it. */
export interface KnownLease {
  readonly image: string;
  /** `host`: on this one; `fleet`: in the fleet, and on this host if the owner is a job of its. */
  readonly where: 'host' | 'fleet';
  readonly owner: string;
  /** Unknown while it has not registered. */
  readonly fence?: number;
  /** Milliseconds since the epoch. */
  readonly since: number;
  readonly waiting: readonly { readonly owner: string; readonly since: number }[];
}

/** @param redis undefined: only what this host knows */
export async function leasesOf(
  { state }: Context,
  images: readonly string[],
  redis: RedisHandle | undefined,
): Promise<KnownLease[]> {
  const found = await Promise.all(
    images.map(async (image) => {
      const here = await localWriters(state, image);
      const fleet = redis === undefined ? undefined : await showLease(redis, image);
      return joined(here, fleet).map((lease) => ({ image, ...lease }));
    }),
  );
  return found.flat();
}

/** Whether there is a Redis to ask: asking must not start one. */
export function hasRedis({ settings, state }: Context): boolean {
  return settings.redis.url !== undefined || existsSync(state.redis);
}

/** A job has both rights, or has the host's and waits for the fleet's: it is told of once. */
function joined(here: LocalWriters | undefined, fleet: LeaseInfo | undefined): Omit<KnownLease, 'image'>[] {
  const holder = here?.holder;
  const waiting = here?.waiting ?? [];
  const host = holder === undefined ? [] : [{ where: 'host' as const, ...told(holder), waiting }];
  if (fleet === undefined) return host;
  const { owner, fence, since } = fleet;
  const all = { where: 'fleet' as const, owner, fence, since };
  if (holder?.owner === owner) return [{ ...all, waiting: bySince([...waiting, ...fleet.waiting]) }];
  return [{ ...all, waiting: fleet.waiting.filter((one) => one.owner !== holder?.owner) }, ...host];
}

function told({
  owner,
  since,
  fence,
}: NonNullable<LocalWriters['holder']>): Pick<KnownLease, 'owner' | 'since' | 'fence'> {
  return { owner, since, ...(fence === undefined ? {} : { fence }) };
}

function bySince<T extends { readonly since: number }>(all: readonly T[]): T[] {
  return all.toSorted((one, other) => one.since - other.since);
}
