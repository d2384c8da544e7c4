/**
 * The lock of a claimed job, BullMQ's own, but one that can be had again: BullMQ never takes a lock anew that ran out
 * while Redis was away, and would stop every running job of the fleet after such a time.
 */
import type { RoutingKey } from '../protocol/routing.ts';
import type { RedisHandle } from '../redis/connect.ts';

/**
 * Milliseconds for which a claim holds without renewal. A dead worker is noticed much sooner, by its heartbeat
 * (coordinator.ts); this is for locks that nobody looks after.
 */
export const lockDuration = 600_000;

/**
 * KEYS: lock, active list, job. ARGV: token, time to live (ms), job id, the claim's number. A lock that ran out is ours
 * still if nobody has begun the job since: BullMQ counts the claims of a job in its field `ats`.
 */
const renewScript = `
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
if not held then
  if redis.call('HGET', KEYS[3], 'ats') ~= ARGV[4] then return 0 end
  if not redis.call('LPOS', KEYS[2], ARGV[3]) then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`;

/**
 * @param job `attempt`: the number of the claim @param duration milliseconds for which it holds from now @returns false
 * when the claim is lost
 */
export async function renewLock(
  redis: RedisHandle,
  key: RoutingKey,
  { id, attempt }: { readonly id: string; readonly attempt: number },
  token: string,
  duration: number = lockDuration,
): Promise<boolean> {
  const queue = `${redis.keys.queues}:${key}`;
  const keys = [`${queue}:${id}:lock`, `${queue}:active`, `${queue}:${id}`] as const;
  return (await redis.client.eval(renewScript, 3, ...keys, token, duration, id, attempt)) === 1;
}

/** For a moment. @returns false when somebody has it */
export async function takeLock(redis: RedisHandle, key: RoutingKey, id: string, token: string): Promise<boolean> {
  return (await redis.client.set(`${redis.keys.queues}:${key}:${id}:lock`, token, 'PX', 30_000, 'NX')) === 'OK';
}
