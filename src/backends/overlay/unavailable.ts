/** Whether overlay testbeds can be opened on this host, and if not, what to do about it. */
import { readFileSync } from 'node:fs';
import { isExecutable } from '../../exec/executable.ts';
import { subordinateIdsMissing } from '../../exec/as-root.ts';
import { run } from '../../exec/run.ts';
import { syscallNumbers } from '../../exec/syscalls.ts';

const programs = { '/usr/bin/unshare': 'util-linux', '/usr/bin/perl': 'perl-base', '/bin/tar': 'tar' };

export async function overlayUnavailable(): Promise<string | undefined> {
  if (syscallNumbers() === undefined) return `no system call numbers known for ${process.arch}`;
  for (const [program, debianPackage] of Object.entries(programs)) {
    if (!isExecutable(program)) return `${program} is missing: apt-get install ${debianPackage}`;
  }
  return (await overlayfsMissing()) ?? subordinateIdsMissing() ?? uidmapMissing();
}

async function overlayfsMissing(): Promise<string | undefined> {
  if (knowsOverlay()) return undefined;
  await run(['/sbin/modprobe', 'overlay']).catch(() => undefined);
  return knowsOverlay() ? undefined : 'this kernel has no overlayfs (modprobe overlay)';
}

function knowsOverlay(): boolean {
  return /\boverlay$/m.test(readFileSync('/proc/filesystems', 'utf8'));
}

function uidmapMissing(): string | undefined {
  if (process.getuid?.() === 0 || isExecutable('/usr/bin/newuidmap')) return undefined;
  return 'not root, and newuidmap is missing: apt-get install uidmap';
}
