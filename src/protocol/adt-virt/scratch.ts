/** The scratch directory: made in the testbed by one command, at a path that stays the same for the server's life. */
import { check } from '../../exec/run.ts';
import { messageOf, TestbedError } from '../errors.ts';
import type { Testbed } from '../testbed.ts';

const make = `
set -e
if [ -n "$2" ]; then dir=$2; /bin/mkdir -m "$1" -- "$dir"; else dir=$(/bin/mktemp -d /tmp/autopkgtest.XXXXXX); fi
/bin/chmod "$1" "$dir"
echo "$dir"`;

/**
 * @param wanted the path that an earlier open or revert had; the client relies on it
 * @returns its path in the testbed
 */
export async function makeScratch(testbed: Testbed, wanted: string | undefined, signal: AbortSignal): Promise<string> {
  // 1777 was a security hole where the testbed shares the host (autopkgtest 5.49); elsewhere the client of Debian 12 needs
  // a directory into which the test's own user may write
  const mode = testbed.rootOnHost === undefined ? '777' : '755';
  try {
    const made = await check([...testbed.auxverb, '/bin/sh', '-c', make, 'sh', mode, wanted ?? ''], { signal });
    const scratch = made.stdout.trim();
    if (!scratch.startsWith('/')) throw new Error(`mktemp said "${scratch}"`);
    return scratch;
  } catch (error) {
    signal.throwIfAborted();
    throw new TestbedError('open', 'testbed', `cannot make a scratch directory: ${messageOf(error)}`, { cause: error });
  }
}

export async function removeScratch(testbed: Testbed, scratch: string, signal: AbortSignal): Promise<void> {
  await check([...testbed.auxverb, '/bin/rm', '-rf', '--', scratch], { signal });
}
