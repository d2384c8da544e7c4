/**
 * How often a job may fail for reasons that are not its package's, each class counted by itself: a job whose testbeds
 * broke twice and whose image was being written has spent two of its testbeds, not three attempts. The counts are fields
 * of the job's own hash in Redis, where BullMQ leaves what it does not know: they come and go with the job.
 */
import type { RoutingKey } from '../protocol/routing.ts';
import type { RedisHandle } from '../redis/connect.ts';

/**
 * testbed: it did not open, broke, or was lost. image: somebody else wrote it. host: inputs or disk were missing. lost: the
 * worker died, or fell silent. A verdict on the package, dep-wait among them, is an outcome: nothing is ever spent on it.
 */
export const budgets = { testbed: 3, image: 5, host: 4, lost: 5 } as const;

export type BudgetClass = keyof typeof budgets;
/** Those that a worker itself finds out about. */
export type RetriedClass = Exclude<BudgetClass, 'lost'>;

export interface Spent {
  readonly times: number;
  /** Whether it may be tried again. */
  readonly left: boolean;
  /** Those that are known, each once, in the order of failing. */
  readonly hosts: readonly string[];
}

const fieldOf = (of: BudgetClass): string => `goldbed:${of}`;

/**
 * KEYS: job. ARGV: field, what is spent. One that is gone stays gone: writing would make a hash that nobody removes. Told
 * twice, because an answer was lost, it counts once.
 */
const spendScript = `
if redis.call('EXISTS', KEYS[1]) == 0 then return '' end
local spent = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if not string.find(' ' .. spent .. ' ', ' ' .. ARGV[2] .. ' ', 1, true) then
  spent = spent == '' and ARGV[2] or spent .. ' ' .. ARGV[2]
  redis.call('HSET', KEYS[1], ARGV[1], spent)
end
return spent`;

/** @param attempt names the attempt, whoever tells of it */
export async function spend(
  redis: RedisHandle,
  job: { readonly key: RoutingKey; readonly id: string },
  of: BudgetClass,
  { attempt, host }: { readonly attempt: number | string; readonly host: string },
): Promise<Spent> {
  const word = `${attempt}@${host}`.replaceAll(/\s/g, '_');
  const text = await redis.client.eval(spendScript, 1, jobKey(redis, job), fieldOf(of), word);
  return spentOf(of, String(text));
}

export async function spentSoFar(
  redis: RedisHandle,
  job: { readonly key: RoutingKey; readonly id: string },
  of: BudgetClass,
): Promise<Spent> {
  return spentOf(of, (await redis.client.hget(jobKey(redis, job), fieldOf(of))) ?? '');
}

/** What a job fails with for good. */
export function usedUp(of: BudgetClass, spent: Spent, last: string): string {
  return `${of} failed ${spent.times} times${onHosts(spent)}; the last time: ${last}`;
}

export function onHosts({ hosts }: Spent): string {
  return hosts.length === 0 ? '' : `, on ${hosts.join(', ')}`;
}

function spentOf(of: BudgetClass, text: string): Spent {
  const words = text.split(' ').filter(Boolean);
  const hosts = words.map((word) => word.slice(word.indexOf('@') + 1));
  return { times: words.length, left: words.length < budgets[of], hosts: [...new Set(hosts)].filter(Boolean) };
}

function jobKey(redis: RedisHandle, { key, id }: { readonly key: RoutingKey; readonly id: string }): string {
  return `${redis.keys.queues}:${key}:${id}`;
}
