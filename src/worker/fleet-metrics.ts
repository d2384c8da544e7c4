/**
 * What holds for the whole fleet: queues and leases. One of the workers that are asked tells it, whichever holds a key that
 * expires, and looks at most every few seconds: on a fleet of hundreds of hosts Redis would do little else.
 */
import type { Registry } from 'prom-client';
import { parseRoutingKey } from '../protocol/routing.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { queueDepths, updatedImages, type Depth } from '../redis/depths.ts';
import { elect } from '../redis/elect.ts';
import { showLeases, type LeaseInfo } from '../redis/lease-view.ts';
import { pausedNow } from '../redis/paused.ts';
import { knownKeys } from '../redis/ready.ts';
import { gauge } from './gauge.ts';

/** Milliseconds for which a look holds; and for which the office is held: longer than it takes until the next scrape. */
const lookHolds = 10_000;
const officeHolds = 180_000;

interface Look {
  readonly depths: readonly Depth[];
  readonly leases: ReadonlyMap<string, LeaseInfo>;
  readonly paused: { has(name: string): boolean };
}

const nothing: Look = { depths: [], leases: new Map(), paused: new Set() };

const keyed = ['kind', 'backend', 'arch', 'size', 'image'] as const;

export function fleetMetrics(registry: Registry, redis: RedisHandle, incarnation: string): void {
  const look = cachedLook(redis, incarnation);
  const queueJobs = {
    name: 'goldbed_queue_jobs',
    help: 'Jobs of a queue that has any. state: waiting, delayed, active.',
  };
  gauge(registry, { ...queueJobs, labels: [...keyed, 'state'] }, async (set) => {
    for (const { key, waiting, delayed, active } of (await look()).depths) {
      if (waiting + delayed + active === 0) continue;
      for (const [state, count] of Object.entries({ waiting, delayed, active })) set({ ...keyOf(key), state }, count);
    }
  });
  const oldest = {
    name: 'goldbed_queue_oldest_seconds',
    help: 'Since the oldest job that waits in a queue was handed in.',
  };
  gauge(registry, { ...oldest, labels: keyed }, async (set) => {
    for (const { key, oldest: since } of (await look()).depths) {
      if (since !== undefined) set(keyOf(key), secondsSince(since));
    }
  });
  const help = 'Slots that the jobs that run or could run would fill, were there enough: what an autoscaler aims at.';
  gauge(registry, { name: 'goldbed_slots_wanted', help, labels: ['arch', 'backend'] }, async (set) => {
    for (const { labels, slots } of slotsWanted(await look())) set(labels, slots);
  });
  const held = { name: 'goldbed_lease_held_seconds', help: 'Since when somebody has the right to write an image.' };
  gauge(registry, { ...held, labels: ['image'] }, async (set) => {
    for (const [image, { since }] of (await look()).leases) set({ image }, secondsSince(since));
  });
  const waiting = {
    name: 'goldbed_lease_waiting',
    help: 'Who waits for the right to write an image that somebody has.',
  };
  gauge(registry, { ...waiting, labels: ['image'] }, async (set) => {
    for (const [image, lease] of (await look()).leases) set({ image }, lease.waiting.length);
  });
}

/** @returns nothing where another worker has the office */
function cachedLook(redis: RedisHandle, incarnation: string): () => Promise<Look> {
  let known: { readonly at: number; readonly look: Promise<Look> } | undefined;
  const take = async (): Promise<Look> => {
    if (!(await elect(redis, redis.keys.fleetMetrics, incarnation, officeHolds))) return nothing;
    const keys = await knownKeys(redis);
    const [depths, leases, paused] = await Promise.all([
      queueDepths(redis, keys),
      showLeases(redis, updatedImages(keys)),
      pausedNow(redis),
    ]);
    return { depths, leases, paused };
  };
  return () => {
    if (known === undefined || performance.now() - known.at >= lookHolds) {
      const taken = { at: performance.now(), look: take() };
      known = taken;
      taken.look.catch(() => {
        if (known === taken) known = undefined; // Redis was away: not for ten seconds more
      });
    }
    return known.look;
  };
}

/** Jobs of paused images are no reason for more hosts, nor are those that back off or wait for a refresh. */
function slotsWanted({ depths, paused }: Look): Iterable<{ labels: { arch: string; backend: string }; slots: number }> {
  const wanted = new Map<string, { labels: { arch: string; backend: string }; slots: number }>();
  for (const { key, waiting, active } of depths) {
    const parts = parseRoutingKey(key);
    if (parts === undefined) continue;
    const labels = { arch: parts.arch, backend: parts.backend };
    const before = wanted.get(JSON.stringify(labels))?.slots ?? 0;
    const slots = active + (paused.has(`image:${parts.image}`) ? 0 : waiting);
    wanted.set(JSON.stringify(labels), { labels, slots: before + slots });
  }
  return wanted.values();
}

function keyOf(key: string): Record<(typeof keyed)[number], string> {
  const { kind = '', backend = '', arch = '', size = '', image = '' } = parseRoutingKey(key) ?? {};
  return { kind, backend, arch, size, image };
}

function secondsSince(time: number): number {
  return Math.max(0, (Date.now() - time) / 1000);
}
