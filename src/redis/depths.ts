/** How much is in the queues, and for how long it has waited. */
import { parseRoutingKey, type RoutingKey } from '../protocol/routing.ts';
import type { RedisHandle } from './connect.ts';

export interface Depth {
  readonly key: RoutingKey;
  readonly waiting: number;
  readonly delayed: number;
  readonly active: number;
  /** When the oldest of those that wait was handed in (ms since the epoch). */
  readonly oldest: number | undefined;
}

/**
 * ARGV: prefix of the queues, how many to look at, keys. The order of a queue is that of its tenants' turns (fair.ts), so the
 * first jobs of it hold the oldest job of each tenant: no more of them need be looked at.
 */
const depthScript = `
local answer = {}
for i = 3, #ARGV do
  local queue = ARGV[1] .. ':' .. ARGV[i]
  local listed, sorted = redis.call('LLEN', queue .. ':wait'), redis.call('ZCARD', queue .. ':prioritized')
  local oldest = ''
  local function look(id)
    local since = id and redis.call('HGET', queue .. ':' .. id, 'timestamp')
    if since and (oldest == '' or tonumber(since) < tonumber(oldest)) then oldest = since end
  end
  if listed > 0 then look(redis.call('LINDEX', queue .. ':wait', -1)) end
  if sorted > 0 then
    for _, id in ipairs(redis.call('ZRANGE', queue .. ':prioritized', 0, ARGV[2] - 1)) do look(id) end
  end
  answer[#answer + 1] = {listed + sorted, redis.call('ZCARD', queue .. ':delayed'), redis.call('LLEN', queue .. ':active'), oldest}
end
return answer`;

/** Keys a call of the script: Redis does nothing else meanwhile. */
const atOnce = 200;

/** Jobs of each queue that are looked at. */
const lookedAt = 32;

export async function queueDepths(redis: RedisHandle, keys: readonly RoutingKey[]): Promise<Depth[]> {
  const depths: Depth[] = [];
  for (let i = 0; i < keys.length; i += atOnce) {
    const some = keys.slice(i, i + atOnce);
    const answer = await redis.client.eval(depthScript, 0, redis.keys.queues, lookedAt, ...some);
    for (const [index, told] of (answer as [number, number, number, string][]).entries()) {
      const [waiting, delayed, active, oldest] = told;
      const key = some[index] ?? '';
      depths.push({ key, waiting, delayed, active, oldest: oldest === '' ? undefined : Number(oldest) });
    }
  }
  return depths;
}

/** The images that have had an update of late. */
export function updatedImages(keys: readonly RoutingKey[]): string[] {
  const parts = keys.map(parseRoutingKey).filter((each) => each?.kind === 'update-golden');
  return [...new Set(parts.map((each) => each?.image ?? ''))];
}
