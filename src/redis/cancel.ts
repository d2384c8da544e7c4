/**
 * Cancelling runs, one or forty thousand: a durable intent first, then the removal of those that wait, then a nudge to
 * whoever runs the others. A worker that was away finds the intent when it is back (renewal.ts in worker/).
 */
import type { Nudge } from '../protocol/nudge.ts';
import { persist } from './persist.ts';
import { withQueue } from './with-queue.ts';
import type { RedisHandle } from './connect.ts';

/** Runs that go to Redis together: it does nothing else meanwhile. */
const atOnce = 500;

/** Seconds for which an intent is kept: as long as a worker may be cut off and still run the job. */
const intentKept = 86_400;

export interface OpenRun {
  readonly id: string;
  readonly queue: string;
  readonly active: boolean;
}

/** Those that have ended stay as they are. @returns the ids of those that are cancelled now */
export async function cancelRuns(redis: RedisHandle, ids: readonly string[], reason: string): Promise<string[]> {
  const cancelled: string[] = [];
  for (let i = 0; i < ids.length; i += atOnce) {
    const some = ids.slice(i, i + atOnce);
    cancelled.push(...(await persist(redis, () => cancelSome(redis, some, reason))));
  }
  return cancelled;
}

async function cancelSome(redis: RedisHandle, ids: readonly string[], reason: string): Promise<string[]> {
  const { client, keys } = redis;
  const open = await openRuns(redis, ids);
  if (open.length === 0) return [];
  const intents = client.pipeline();
  for (const { id } of open) {
    intents.set(keys.cancel(id), reason, 'EX', intentKept).hdel(keys.paused, `job:${id}`);
    intents.hset(keys.run(id), { cancelled: reason, cancelledAt: Date.now() });
  }
  for (const [error] of (await intents.exec()) ?? []) if (error !== null) throw error;
  const removed = new Set<string>();
  const failed: unknown[] = [];
  for (const queue of new Set(open.map((run) => run.queue))) {
    const waiting = open.filter((run) => run.queue === queue && !run.active);
    await withQueue(redis, queue, (opened) =>
      Promise.all(
        waiting.map(async ({ id }) => {
          // not removed: claimed in this moment, and its worker will look
          try {
            if ((await opened.remove(id)) === 1) removed.add(id);
          } catch (error) {
            failed.push(error); // and the others go on
          }
        }),
      ),
    );
  }
  const nudges = client.pipeline();
  for (const { id } of open) {
    const nudge: Nudge = removed.has(id) ? { ended: id } : { cancel: id };
    nudges.publish(keys.nudges, JSON.stringify(nudge));
  }
  await nudges.exec();
  if (failed.length > 0) throw failed[0];
  return open.map(({ id }) => id);
}

/** Those of the runs that wait or run. */
export async function openRuns({ client, keys }: RedisHandle, ids: readonly string[]): Promise<OpenRun[]> {
  const asked = client.pipeline();
  for (const id of ids) asked.hget(keys.run(id), 'queue');
  const queues = ((await asked.exec()) ?? []).map(([, queue]) => queue as string | null);
  const states = client.pipeline();
  for (const [index, id] of ids.entries()) {
    const queue = `${keys.queues}:${queues[index] ?? ''}`;
    states.exists(`${queue}:${id}`).zscore(`${queue}:completed`, id).zscore(`${queue}:failed`, id);
    states.lpos(`${queue}:active`, id);
  }
  const answers = (await states.exec()) ?? [];
  return ids.flatMap((id, index) => {
    const queue = queues[index];
    const [exists, completed, failed, active] = answers.slice(index * 4, index * 4 + 4).map(([, answer]) => answer);
    const ended = exists !== 1 || completed !== null || failed !== null;
    return ended || queue === null || queue === undefined ? [] : [{ id, queue, active: active !== null }];
  });
}
