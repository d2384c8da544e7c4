/** One seed for everything that is random in a test: it is printed, and GOLDBED_CHAOS_SEED replays it. */
import { randomInt } from 'node:crypto';

/** @param index of several that have one seed after another: the seed that is replayed is the first one's */
export function chaosSeed(what: string, index = 0): number {
  const replayed = process.env['GOLDBED_CHAOS_SEED'];
  const seed = replayed === undefined ? randomInt(2 ** 31) : Number(replayed) + index;
  process.stderr.write(`${what}: GOLDBED_CHAOS_SEED=${seed}\n`);
  return seed;
}
