/** Who of many does something for all: whichever holds a key that expires. For what does no harm if two do it for a moment. */
import type { RedisHandle } from './connect.ts';

/** KEYS: the office. ARGV: incarnation, time to live. Returns 1 for the one that has it. */
const electScript = `
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`;

const resignScript = `
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end`;

/** @param ttl milliseconds for which it is held without asking again */
export async function elect({ client }: RedisHandle, office: string, who: string, ttl: number): Promise<boolean> {
  return (await client.eval(electScript, 1, office, who, ttl)) === 1;
}

export async function resign({ client }: RedisHandle, office: string, who: string): Promise<void> {
  await client.eval(resignScript, 1, office, who);
}
