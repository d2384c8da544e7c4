/** Whether somebody has an image, and for which architecture its jobs are. */
import { debianArchitecture } from '../exec/debian-architecture.ts';
import { UsageError } from '../protocol/errors.ts';
import { liveWorkers } from '../producer/workers.ts';
import type { RedisHandle } from '../redis/connect.ts';
import type { Context } from './context.ts';
import { knownImages } from './offers.ts';

/**
 * @returns the Debian architecture of who has it: this host's, where this host, or another one of its kind, is among them
 * @throws {UsageError} neither this host nor a worker has it
 */
export async function requireImage(context: Context, redis: RedisHandle, image: string): Promise<string> {
  const local = await knownImages(context);
  const own = await debianArchitecture();
  if (local.includes(image)) return own;
  const workers = await liveWorkers(redis.client, redis.keys);
  const having = workers.filter(({ images }) => images.includes(image)).map(({ arch = own }) => arch);
  const [first] = having.toSorted();
  if (first !== undefined) return having.includes(own) ? own : first;
  const known = [...new Set([...local, ...workers.flatMap(({ images }) => images)])].toSorted();
  const hint =
    known.length === 0 ? 'there are none yet: goldbed image create NAME --suite SUITE' : `known: ${known.join(', ')}`;
  throw new UsageError(image, `unknown image "${image}" (${hint})`);
}
