/** Who writes an image, and who waits for that: what the leases of images (golden/lease.ts) look like to everybody else. */
import * as z from 'zod';
import type { RedisHandle } from './connect.ts';
import { redisTime } from './time.ts';

export interface LeaseOwner {
  /** For people: `update-golden u0123456789abcdef`. */
  readonly owner: string;
  /** Milliseconds since the epoch, by the clock of whoever reads it: Redis's own is what was written down. */
  readonly since: number;
}

export interface LeaseInfo extends LeaseOwner {
  readonly fence: number;
  /** Who waits for it, the first one first. */
  readonly waiting: readonly LeaseOwner[];
}

const ownerSchema = z.object({ owner: z.string(), since: z.number() });

/** Milliseconds after which one that has not tried again waits no more: it tries four times a second. */
export const waitCounts = 10_000;

/** Who writes the image now. */
export async function showLease(redis: RedisHandle, image: string): Promise<LeaseInfo | undefined> {
  return (await showLeases(redis, [image])).get(image);
}

/** Of these images those that somebody writes. Two round trips, however many they are. */
export async function showLeases(
  { client, keys }: RedisHandle,
  images: readonly string[],
): Promise<ReadonlyMap<string, LeaseInfo>> {
  if (images.length === 0) return new Map();
  const [texts, now] = await Promise.all([client.mget(images.map(keys.lease)), redisTime(client)]);
  const ahead = Date.now() - now;
  const held = images.flatMap((image, index) => (texts[index] ? [{ image, text: texts[index] }] : []));
  if (held.length === 0) return new Map();
  const asked = client.pipeline();
  for (const { image } of held) {
    asked.get(keys.fence(image)).zrangebyscore(keys.leaseWaits(image), now - waitCounts, '+inf');
  }
  const answers = ((await asked.exec()) ?? []).map(([, answer]) => answer);
  const here = ({ owner, since }: LeaseOwner): LeaseOwner => ({ owner, since: since + ahead });
  return new Map(
    held.map(({ image, text }, index) => {
      const waits = (answers[index * 2 + 1] ?? []) as string[];
      const waiting = waits.map((wait) => here(ownerOf(wait))).toSorted((a, b) => a.since - b.since);
      return [image, { ...here(ownerOf(text)), fence: Number(answers[index * 2] ?? 0), waiting }];
    }),
  );
}

/** Every image that somebody writes, on whatever host. */
export async function leasedImages({ client, keys }: RedisHandle): Promise<string[]> {
  const prefix = keys.lease('');
  const images = new Set<string>(); // SCAN may tell of one twice
  const match = `${prefix.replaceAll(/[\\*?[\]]/g, String.raw`\$&`)}*`;
  for await (const found of client.scanStream({ match, count: 10_000 }) as AsyncIterable<string[]>) {
    for (const key of found) images.add(key.slice(prefix.length));
  }
  return [...images].toSorted();
}

export function ownerOf(text: string): LeaseOwner {
  try {
    return ownerSchema.parse(JSON.parse(text));
  } catch {
    return { owner: 'somebody', since: 0 };
  }
}
