/** A reboot that the scratch directory outlives: it is in /tmp, which a system may empty when it starts. */
import { messageOf, TestbedError } from '../errors.ts';
import type { Testbed } from '../testbed.ts';
import { checkInsideWithin } from './inside.ts';

/** Not lost by a reboot, and not looked at by packages; where the stock servers have theirs. */
const saved = '/var/cache/goldbed-scratch.tar';

/**
 * Without the mark, what a test has prepared for goes on: it has asked with `autopkgtest-reboot-prepare`, and reboots at
 * once, in whatever way, so everything has to be on disk before that.
 */
const save = `
  /bin/tar --warning=none --create --absolute-names --xattrs --file="$1" "$2"
  /bin/sync
  /bin/rm -f /run/autopkgtest-reboot-prepare-mark`;
const restore = '/bin/tar --warning=none --extract --absolute-names --xattrs --file="$1"; /bin/rm -f "$1"';

/** Milliseconds for either, as for the machine itself: an emulated one on a busy host takes minutes. */
const patience = 600_000;

/** @param who see {@link Testbed.reboot} @throws {TestbedError} */
export async function rebootWithScratch(
  testbed: Testbed,
  scratch: string,
  who: 'server' | 'testbed',
  signal: AbortSignal,
): Promise<void> {
  await inside(testbed, save, [saved, scratch], signal);
  await testbed.reboot?.(who, signal);
  await inside(testbed, restore, [saved], signal);
}

async function inside(testbed: Testbed, script: string, args: readonly string[], signal: AbortSignal): Promise<void> {
  try {
    await checkInsideWithin(patience, testbed, ['/bin/sh', '-ec', script, 'sh', ...args], signal);
  } catch (error) {
    signal.throwIfAborted();
    throw new TestbedError('reboot', 'testbed', messageOf(error), { cause: error });
  }
}
