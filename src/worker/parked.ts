/** A claimed job one of whose labels is paused goes back to the queue, where it is put off until somebody resumes the label. */
import { labelsOf } from '../protocol/label.ts';
import { cancelRuns } from '../redis/cancel.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { pausedNow } from '../redis/paused.ts';
import { persist } from '../redis/persist.ts';
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
  const [text, parked] = await persist(redis, () => client.hmget(run, 'labels', 'parked'));
  const labels = labelsOf(text);
  const paused = labels.length === 0 ? undefined : await persist(redis, () => pausedNow(redis));
  const label = labels.find((each) => paused?.has(`label:${each}`) === true);
  if (label === undefined) {
    if (parked !== null) await client.hdel(run, 'parked');
    return false;
  }
  await persist(redis, () => client.hset(run, 'parked', label));
  await claimed.leave(lookAgain);
  await persist(redis, () => lookBack(redis, claims, claimed, label));
  return true;
}

/** Whoever cancelled it or resumed the label in the meantime took it for one that runs, and left the rest to us. */
async function lookBack(
  redis: RedisHandle,
  claims: Pick<Claims, 'promote'>,
  { key, runId }: Claimed,
  label: string,
): Promise<void> {
  const { client, keys } = redis;
  const reason = await client.get(keys.cancel(runId));
  if (reason !== null) await cancelRuns(redis, [runId], reason);
  if ((await client.hexists(keys.paused, `label:${label}`)) === 1) return;
  await client.hdel(keys.run(runId), 'parked');
  await claims.promote(key, runId);
}
