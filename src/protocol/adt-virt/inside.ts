/** Commands of the server itself in a testbed, whose programs need not be what they were. */
import { check } from '../../exec/run.ts';
import type { Testbed } from '../testbed.ts';

/** Bytes: enough for what a program complains of. */
const keep = 4096;

/** @throws {CommandFailed} */
export async function checkInside(
  testbed: Pick<Testbed, 'auxverb'>,
  argv: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  await check([...testbed.auxverb, ...argv], { signal, keep });
}

/** As {@link checkInside}, in a testbed that may hang. @throws {Error} that says so when it is not done in time */
export async function checkInsideWithin(
  milliseconds: number,
  testbed: Pick<Testbed, 'auxverb'>,
  argv: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const limit = AbortSignal.timeout(milliseconds);
  try {
    await checkInside(testbed, argv, AbortSignal.any([signal, limit]));
  } catch (error) {
    signal.throwIfAborted();
    if (!limit.aborted) throw error;
    throw new Error(`${argv[0]} has not ended within ${milliseconds / 1000} s`, { cause: error });
  }
}
