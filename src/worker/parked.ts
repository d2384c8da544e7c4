/** A claimed job that is paused, or one of whose labels is, goes back to the queue, where it is put off until somebody resumes it. */
import { labelsOf } from '../protocol/label.ts';
import type { PausedName } from '../protocol/paused.ts';
import { cancelRuns } from '../redis/cancel.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { pausedNow } from '../redis/paused.ts';
import { insist } from '../redis/persist.ts';
import type { Claimed } from './claimed.ts';
import type { Claims } from './claims.ts';

/** Milliseconds after which it looks again by itself: the one who resumes it may die on the way. */
const lookAgain = 3_600_000;

/** @returns whether it was put off */
export async function parkIfPaused(
  redis: RedisHandle,
  claims: Pick<Claims, 'promote'>,
  claimed: Claimed,
): Promise<boolean> {
  const { client, keys } = redis;
  const run = keys.run(claimed.runId);
  const [text, parked, own] = await insist(redis, () => ask(redis, claimed.runId));
  const labels = labelsOf(text);
  const paused = labels.length === 0 ? undefined : await insist(redis, () => pausedNow(redis));
  const label = labels.find((each) => paused?.has(`label:${each}`) === true);
  const name = own === 1 ? jobName(claimed.runId) : label === undefined ? undefined : (`label:${label}` as const);
  if (name === undefined) {
    if (parked !== null) await insist(redis, () => client.hdel(run, 'parked'));
    return false;
  }
  await insist(redis, () => client.hset(run, 'parked', name));
  await claimed.leave(lookAgain);
  await insist(redis, () => lookBack(redis, claims, claimed, name));
  return true;
}

/** In one round trip: each job is asked about. */
async function ask({ client, keys }: RedisHandle, runId: string): Promise<[string | null, string | null, number]> {
  const asked = client.pipeline().hmget(keys.run(runId), 'labels', 'parked').hexists(keys.paused, jobName(runId));
  const [about, own] = (await asked.exec()) ?? [];
  for (const error of [about?.[0], own?.[0]]) if (error) throw error;
  const [labels = null, parked = null] = (about?.[1] ?? []) as (string | null)[];
  return [labels, parked, Number(own?.[1])];
}

function jobName(runId: string): `job:${string}` {
  return `job:${runId}`;
}

/** Whoever cancelled it or resumed it in the meantime took it for one that runs, and left the rest to us. */
async function lookBack(
  redis: RedisHandle,
  claims: Pick<Claims, 'promote'>,
  { key, runId }: Claimed,
  name: PausedName,
): Promise<void> {
  const { client, keys } = redis;
  const reason = await client.get(keys.cancel(runId));
  if (reason !== null) await cancelRuns(redis, [runId], reason);
  if ((await client.hexists(keys.paused, name)) === 1) return;
  await client.hdel(keys.run(runId), 'parked');
  await claims.promote(key, runId);
}
