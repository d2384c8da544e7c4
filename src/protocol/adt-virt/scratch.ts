/** The scratch directory: made in the testbed by one command, at a path that stays the same for the server's life. */
import { randomBytes } from 'node:crypto';
import { messageOf, TestbedError } from '../errors.ts';
import type { Testbed, Trait } from '../testbed.ts';
import { unlessAborted } from '../../exec/patience.ts';
import { checkInside, checkInsideWithin } from './inside.ts';

/**
 * @param wanted the path that an earlier open or revert had; the client relies on it
 * @returns its path in the testbed
 */
export async function makeScratch(testbed: Testbed, wanted: string | undefined, signal: AbortSignal): Promise<string> {
  const scratch = wanted ?? `/tmp/autopkgtest.${randomBytes(6).toString('hex')}`;
  const { mode, owner } = accessFor(testbed.traits);
  try {
    // one process at the most: `open` is timed by people. mkdir fails on whatever is there already, a planted link too
    const mkdir = ['/bin/mkdir', '-m', mode.toString(8), '--', scratch];
    const chown = ['/bin/sh', '-c', '"$@" && exec /bin/chown "$0" "$5"', owner ?? '', ...mkdir];
    if (testbed.makeDirectory === undefined) await checkInside(testbed, owner === undefined ? mkdir : chown, signal);
    // a signal may have killed the process that would answer
    else await unlessAborted(testbed.makeDirectory(scratch, mode, owner), signal);
    return scratch;
  } catch (error) {
    signal.throwIfAborted();
    throw new TestbedError('open', 'testbed', `cannot make a scratch directory: ${messageOf(error)}`, { cause: error });
  }
}

/**
 * World-writable only where nobody but the client can run anything beside the testbed: elsewhere 1777 was a security hole
 * (autopkgtest 5.49). There its client gives the directory to the user that tests run as; the client of Debian 12 does
 * not, and its tests need to write to it, so it is that user's from the start: root may trust a user whom we suggest.
 */
function accessFor(traits: readonly Trait[]): { mode: number; owner: string | undefined } {
  if (traits.some((trait) => trait.startsWith('isolation-'))) return { mode: 0o777, owner: undefined };
  const suggested = traits.findLast((trait) => trait.startsWith('suggested-normal-user='));
  return { mode: 0o755, owner: suggested?.slice('suggested-normal-user='.length) };
}

export async function removeScratch(testbed: Testbed, scratch: string, signal: AbortSignal): Promise<void> {
  await checkInside(testbed, removal(scratch), signal);
}

/** Milliseconds. */
const atTheEnd = 60_000;

/** Never with the job's signal, which may have fired; and a testbed that hangs must not hold up its own end. */
export async function removeScratchAtTheEnd(testbed: Testbed, scratch: string): Promise<void> {
  await checkInsideWithin(atTheEnd, testbed, removal(scratch), new AbortController().signal);
}

function removal(scratch: string): string[] {
  return ['/bin/rm', '-rf', '--', scratch];
}
