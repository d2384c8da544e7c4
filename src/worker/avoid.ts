/** A job whose testbed failed on a host is tried on another one next, while there is another. */
import { parseAvoided } from '../protocol/avoided.ts';
import { parsePresence, type Presence } from '../protocol/presence.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { redisTime } from '../redis/time.ts';

/** Times that a job is left to the others; then it runs wherever it comes. */
const patience = 5;

/** Remembered with the run, in the order of failing. */
export async function noteFailedOn(redis: RedisHandle, runId: string, host: string): Promise<void> {
  const known = await hostsToAvoid(redis, runId);
  await redis.client.hdel(redis.keys.run(runId), 'leftBy'); // it waits because it failed, from now on
  if (known.includes(host)) return;
  await redis.client.hset(redis.keys.run(runId), { avoid: JSON.stringify([...known, host]) });
}

/** Whether to leave a claimed job to another host. */
export async function leaveToOthers(
  redis: RedisHandle,
  runId: string,
  job: { readonly host: string; readonly image: string },
): Promise<boolean> {
  const avoided = await hostsToAvoid(redis, runId);
  if (!avoided.includes(job.host)) return false;
  const others = (await livePresences(redis)).filter(
    ({ host, images, troubles }) => !avoided.includes(host) && images.includes(job.image) && troubles.length === 0,
  );
  if (others.length === 0) return false;
  const run = redis.keys.run(runId);
  const left = (await redis.client.hincrby(run, 'left', 1)) <= patience;
  if (left) await redis.client.hset(run, 'leftBy', job.host); // for whoever asks why it waits
  return left;
}

async function hostsToAvoid({ client, keys }: RedisHandle, runId: string): Promise<string[]> {
  return parseAvoided(await client.hget(keys.run(runId), 'avoid'));
}

async function livePresences({ client, keys }: RedisHandle): Promise<Presence[]> {
  const members = await client.zrangebyscore(keys.workers, await redisTime(client), '+inf');
  if (members.length === 0) return [];
  const told = await client.hmget(keys.workerDetails, ...members);
  return told.flatMap((text) => {
    const parsed = parsePresence(text);
    return parsed === undefined ? [] : [parsed];
  });
}
