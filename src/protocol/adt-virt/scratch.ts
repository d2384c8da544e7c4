/** The scratch directory: made in the testbed by one command, at a path that stays the same for the server's life. */
import { randomBytes } from 'node:crypto';
import { check } from '../../exec/run.ts';
import { messageOf, TestbedError } from '../errors.ts';
import type { Testbed } from '../testbed.ts';
import { unlessAborted } from '../../exec/patience.ts';

/**
 * @param wanted the path that an earlier open or revert had; the client relies on it
 * @returns its path in the testbed
 */
export async function makeScratch(testbed: Testbed, wanted: string | undefined, signal: AbortSignal): Promise<string> {
  const scratch = wanted ?? `/tmp/autopkgtest.${randomBytes(6).toString('hex')}`;
  // 1777 was a security hole where the testbed shares the host (autopkgtest 5.49); elsewhere the client of Debian 12 needs
  // a directory into which the test's own user may write
  const mode = testbed.rootOnHost === undefined ? 0o777 : 0o755;
  try {
    // one process at the most: `open` is timed by people. mkdir fails on whatever is there already, a planted link too
    const mkdir = ['/bin/mkdir', '-m', mode.toString(8), '--', scratch];
    if (testbed.makeDirectory === undefined) await check([...testbed.auxverb, ...mkdir], { signal });
    // a signal may have killed the process that would answer
    else await unlessAborted(testbed.makeDirectory(scratch, mode), signal);
    return scratch;
  } catch (error) {
    signal.throwIfAborted();
    throw new TestbedError('open', 'testbed', `cannot make a scratch directory: ${messageOf(error)}`, { cause: error });
  }
}

export async function removeScratch(testbed: Testbed, scratch: string, signal: AbortSignal): Promise<void> {
  await check([...testbed.auxverb, '/bin/rm', '-rf', '--', scratch], { signal });
}
