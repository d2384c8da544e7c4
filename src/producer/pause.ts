/** Pausing the jobs of a label or an image, or one job: what runs goes on, nothing of it is begun until it is resumed. */
import { UsageError } from '../protocol/errors.ts';
import { pausedText, type PausedName } from '../protocol/paused.ts';
import type { Drained } from '../protocol/presence.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { nudge } from '../redis/nudges.ts';
import { announceWork, knownKeys } from '../redis/ready.ts';
import { withQueue } from '../redis/with-queue.ts';
import { runsOfLabel } from './select.ts';

/** Jobs that are told at once to wait no longer. */
const atOnce = 200;

export async function pause(redis: RedisHandle, name: PausedName, reason: string): Promise<void> {
  await redis.client.hset(redis.keys.paused, name, JSON.stringify({ reason, since: Date.now() } satisfies Drained));
}

/** @throws {UsageError} it is not paused */
export async function resume(redis: RedisHandle, name: PausedName): Promise<void> {
  const was = await redis.client.hdel(redis.keys.paused, name);
  // also when it was not: whoever resumed it before may have died in between
  const [, kind, word = ''] = /^(label|job):(.*)$/s.exec(name) ?? [];
  if (kind !== undefined) await unpark(redis, name, kind === 'job' ? [word] : await runsOfLabel(redis, word));
  for (const key of await knownKeys(redis)) await nudge(redis, { enqueued: key });
  if (was === 0) throw new UsageError(name, `${pausedText(name)} is not paused`);
}

/** Workers have put off those of the jobs that they came across (worker/parked.ts). */
async function unpark(redis: RedisHandle, name: PausedName, ids: readonly string[]): Promise<void> {
  const { client, keys } = redis;
  const touched = new Set<string>();
  for (let i = 0; i < ids.length; i += atOnce) {
    const some = ids.slice(i, i + atOnce);
    const asked = client.pipeline();
    for (const id of some) asked.hmget(keys.run(id), 'parked', 'queue');
    const answers = (await asked.exec()) ?? [];
    await Promise.all(
      some.map(async (id, index) => {
        const [parked, queue] = (answers[index]?.[1] ?? []) as (string | null)[];
        if (parked !== name || queue === null || queue === undefined) return;
        touched.add(queue);
        await client.hdel(keys.run(id), 'parked');
        await withQueue(redis, queue, async (opened) => (await opened.getJob(id))?.promote()).catch(() => {}); // it runs, or has ended
      }),
    );
  }
  for (const queue of touched) await announceWork(redis, queue);
}
