/** One seed for everything that is random in a test: it is printed, and GOLDBED_CHAOS_SEED replays it. */
import { randomInt } from 'node:crypto';

export function chaosSeed(what: string): number {
  const seed = Number(process.env['GOLDBED_CHAOS_SEED'] ?? randomInt(2 ** 31));
  process.stderr.write(`${what}: GOLDBED_CHAOS_SEED=${seed}\n`);
  return seed;
}
