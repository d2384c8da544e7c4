/** Why jobs are put off that nobody has paused, and that wait for no refresh: they failed, or were left to other hosts. */
import { parseFailure } from '../protocol/failure.ts';
import type { RoutingKey } from '../protocol/routing.ts';
import type { RedisHandle } from '../redis/connect.ts';

/** In one round trip. @returns a line for each of them, by id */
export async function delayReasons(
  { client, keys }: RedisHandle,
  jobs: readonly { readonly id: string; readonly key: RoutingKey }[],
  now: number,
): Promise<ReadonlyMap<string, string>> {
  if (jobs.length === 0) return new Map();
  const asked = client.pipeline();
  for (const { id, key } of jobs) {
    const queue = `${keys.queues}:${key}`;
    asked.hget(keys.run(id), 'leftBy').zscore(`${queue}:delayed`, id).hget(`${queue}:${id}`, 'failedReason');
  }
  const answers = ((await asked.exec()) ?? []).map(([, answer]) => answer as string | null);
  return new Map(
    jobs.map(({ id }, index) => {
      const [leftBy = null, score = null, failed = null] = answers.slice(index * 3, index * 3 + 3);
      const again = `again in ${seconds(dueOf(score) - now)}`;
      if (leftBy !== null) return [id, `left to other hosts, its testbed failed on ${leftBy}: ${again}`];
      const what = failed === null ? '' : ` (${parseFailure(failed).message})`;
      return [id, `backs off after a failure of the testbed${what}: ${again}`];
    }),
  );
}

/** BullMQ's score of a delayed job is its time in ms times 4096. */
function dueOf(score: string | null): number {
  return Math.floor(Number(score ?? 0) / 4096);
}

function seconds(milliseconds: number): string {
  return `${Math.max(0, Math.ceil(milliseconds / 1000))} s`;
}
