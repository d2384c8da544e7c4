/**
 * What makes a new generation worth having: packages, what is on hold or came automatically, package lists, and what an
 * administrator keeps beside them. A log or a cache that changed does not.
 */
import type { Argv } from '../protocol/testbed.ts';
import { together } from './together.ts';
import { manifestInside, outputOf } from './verify.ts';

export interface InsideState {
  /** Installed packages (manifest.ts). */
  readonly manifest: string;
  /** Differs whenever any of it does. */
  readonly everything: string;
}

/** What an administrator keeps: all but what some backends mount over it (-xdev does not leave out a single file). */
const kept = 'find /etc /usr/local /opt /srv -xdev ! -path /etc/resolv.conf ! -path "/etc/host*"';

export async function insideState(auxverb: Argv, signal: AbortSignal): Promise<InsideState> {
  // partial/ and lock are apt's own; the order of find is not. apt takes an index only if it is the one that its Release
  // file names by hash, so these files are read, and not the hundred megabytes of indexes
  const script = [
    'cd /var/lib/apt',
    'find lists -type f ! -name lock ! -path "lists/partial/*" -printf "%p %s %T@\\n" | sort',
    'find lists -type f -name "*Release*" ! -path "lists/partial/*" -exec sha256sum {} + | sort -k 2',
    'if test -e extended_states; then sha256sum extended_states; fi',
    '/usr/bin/dpkg --get-selections',
    `${kept} -type f -exec sha256sum {} + | sort -k 2`,
    String.raw`${kept} -printf "%p %y %m %U %G %l\n" | sort`,
  ].join(' && ');
  const [manifest, lists] = await together([
    manifestInside(auxverb, signal),
    outputOf(auxverb, ['/bin/sh', '-c', script], signal, 256 * 1024 * 1024), // a quarter of a kilobyte for each file
  ]);
  return { manifest, everything: `${manifest}\n${lists}` };
}
