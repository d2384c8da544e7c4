/** The disk that takes a machine's changes: an ext4 file system in a sparse file, with an overlayfs upper layer on it. */
import { mkdir, rm, rmdir } from 'node:fs/promises';
import path from 'node:path';
import { check, run } from '../../exec/run.ts';
import { TestbedError } from '../../protocol/errors.ts';

/** What a session may write. The file takes no more of the host's disk than is written. */
const size = '40G';

/** A new one, in the place of the one before. */
export async function makeChangesDisk(disk: string, signal: AbortSignal): Promise<void> {
  await rm(disk, { force: true });
  const lazy = 'lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0';
  await check(['/sbin/mke2fs', '-q', '-F', '-t', 'ext4', '-m', '0', '-E', lazy, disk, size], { signal });
}

/** What systemd writes in any machine: nothing that somebody changed. */
const ofTheMachine = [
  ...['etc/machine-id', 'etc/.updated', 'var/.updated', 'var/log/wtmp', 'var/log/journal/[0-9a-f]*'],
  ...['var/lib/systemd/random-seed', 'var/lib/systemd/timesync/clock', 'var/lib/systemd/timers/stamp-*'],
  ...['tmp/.*-unix', 'tmp/systemd-private-*', 'var/tmp/systemd-private-*'],
];

/**
 * Copies the upper layer off the disk of a machine that was shut down. The mount goes with its command; it is read-only,
 * and after a check, since whoever was root in the machine made that file system. @throws {TestbedError}
 */
export async function takeChanges(disk: string, into: string, signal: AbortSignal): Promise<void> {
  const checked = await run(['/sbin/e2fsck', '-f', '-p', disk], { signal });
  if (checked.code > 1) {
    throw new TestbedError('commit', 'qemu', `the machine's disk is broken: ${checked.stdout.trim()}`);
  }
  const mountPoint = path.join(path.dirname(disk), 'changes');
  await mkdir(mountPoint, { recursive: true });
  const copy = 'mount -o ro,loop,nosuid,nodev,noexec "$1" "$2" && exec cp --archive -- "$2/upper/." "$3/"';
  const script = ['/bin/sh', '-c', copy, 'sh', disk, mountPoint, into];
  await check(['/usr/bin/unshare', '--mount', '--', ...script], { signal });
  await rmdir(mountPoint);
  // find(1) goes through real directories only: a link that somebody left in there leads nowhere
  const names = ofTheMachine.flatMap((name) => ['-o', '-path', `./${name}`]).slice(1);
  const remove = ['(', ...names, ')', '-prune', '-exec', '/bin/rm', '-rf', '--', '{}', '+'];
  await check(['/usr/bin/find', '.', ...remove], { cwd: into, signal });
  await check(['/bin/sync', '--file-system', into], { signal });
}
