/** The runs that belong to something: a label, an image, a host. */
import { parseRoutingKey } from '../protocol/routing.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { busyKeys, heldJobs } from '../redis/held.ts';
import { knownKeys } from '../redis/ready.ts';
import { findHost } from './hosts.ts';

/** All of late that carry it, ended or not. */
export function runsOfLabel({ client, keys }: RedisHandle, label: string): Promise<string[]> {
  return client.zrange(keys.label(label), '0', '-1');
}

/** Those that wait or run on it, of whatever kind. */
export async function runsOfImage(redis: RedisHandle, image: string): Promise<string[]> {
  const { client, keys } = redis;
  const ids: string[] = [];
  for (const key of await knownKeys(redis)) {
    if (parseRoutingKey(key)?.image !== image) continue;
    const queue = `${keys.queues}:${key}`;
    ids.push(...(await client.lrange(`${queue}:active`, 0, -1)), ...(await client.lrange(`${queue}:wait`, 0, -1)));
    ids.push(...(await client.zrange(`${queue}:prioritized`, '0', '-1')));
    ids.push(...(await client.zrange(`${queue}:delayed`, '0', '-1')));
  }
  return ids;
}

/** Those that its workers run now. @throws {UsageError} which hosts there are */
export async function runsOnHost(redis: RedisHandle, name: string): Promise<string[]> {
  const { workers, silent } = await findHost(redis, name);
  const own = [...workers, ...silent]; // one that is cut off may still run them
  const ids: string[] = [];
  for (const key of await busyKeys(redis, await knownKeys(redis))) {
    for (const { id, token } of await heldJobs(redis, key)) {
      if (own.some(({ incarnation }) => token?.startsWith(`${incarnation}.`) === true)) ids.push(id);
    }
  }
  return ids;
}
