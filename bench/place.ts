/**
 * The place where everything is measured: a fresh ext4 in a sparse file, and on it every folder that the compared programs
 * write to. Mounted in our own mount namespace: the host's files are covered there, not changed.
 */
import { chmodSync, chownSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { check } from '../src/exec/run.ts';

export interface Place {
  /** The clean file system. */
  readonly disk: string;
  /** GOLDBED_STATE. */
  readonly state: string;
  /** Environment of everything that is measured. */
  readonly env: Readonly<Record<string, string>>;
  /** Where schroot looks for definitions here. */
  readonly chrootDefinitions: string;
  readonly signal: AbortSignal;
  /** A new empty folder on the clean file system. */
  folder(name: string): string;
  /** Runs before a measurement: what the one before has left to do must not be charged to the next. */
  settle(): Promise<void>;
  say(text: string): void;
}

const diskSize = '24G';

export async function makePlace(folder: string, signal: AbortSignal): Promise<Place> {
  const disk = path.join(folder, 'disk');
  await makeDisk(path.join(folder, 'disk.img'), disk, signal);
  const at = (name: string): string => {
    mkdirSync(path.join(disk, name), { recursive: true });
    return path.join(disk, name);
  };
  const state = at('state');
  const chrootDefinitions = at('chroot.d');
  await coverHostFolders(at, chrootDefinitions, signal);
  const sbuildConfig = path.join(at('home'), 'sbuildrc');
  writeFileSync(sbuildConfig, '1;\n'); // nobody's own settings
  chmodSync(at('tmp'), 0o1777);
  return {
    disk,
    state,
    chrootDefinitions,
    signal,
    env: {
      PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin',
      LANG: 'C.UTF-8',
      HOME: at('home'),
      TMPDIR: at('tmp'),
      GOLDBED_STATE: state,
      GOLDBED_NODE: process.execPath,
      SBUILD_CONFIG: sbuildConfig,
    },
    folder: at,
    settle: () => settle(disk, state, signal),
    say: (text) => void process.stderr.write(`bench: ${text}\n`),
  };
}

async function makeDisk(image: string, disk: string, signal: AbortSignal): Promise<void> {
  mkdirSync(disk);
  await check(['truncate', '--size', diskSize, image], { signal });
  // no background initialisation of inode tables while we measure (ext4(5))
  const options = 'lazy_itable_init=0,lazy_journal_init=0';
  await check(['mkfs.ext4', '-q', '-F', '-E', options, image], { signal });
  await check(['mount', '-o', 'loop', image, disk], { signal }); // the loop device goes with the mount
}

/** schroot keeps sessions and union layers, sbuild its build folder, newuidmap its ranges, in fixed places. */
async function coverHostFolders(at: (name: string) => string, definitions: string, signal: AbortSignal): Promise<void> {
  const cover = (own: string, host: string) => check(['mount', '--bind', own, host], { signal });
  if (exists('/var/lib/schroot')) {
    for (const name of ['session', 'mount', 'unpack', 'union/overlay', 'union/underlay']) at(`schroot/${name}`);
    await cover(at('schroot'), '/var/lib/schroot');
    await cover(definitions, '/etc/schroot/chroot.d');
  }
  if (exists('/var/lib/sbuild/build')) {
    const { uid, gid, mode } = statSync('/var/lib/sbuild/build');
    const own = at('sbuild-build');
    chownSync(own, uid, gid);
    chmodSync(own, mode & 0o7777);
    await cover(own, '/var/lib/sbuild/build');
  }
  for (const name of ['subuid', 'subgid'].filter((each) => exists(`/etc/${each}`))) {
    const own = path.join(at('etc'), name);
    writeFileSync(own, 'root:100000:65536\n'); // autopkgtest-virt-unshare needs a range for root, and takes the first line
    await cover(own, `/etc/${name}`);
  }
}

/** Waits until goldbed's removing and flattening in the background is done and the disk has nothing left to write. */
async function settle(disk: string, state: string, signal: AbortSignal): Promise<void> {
  const busy = 'pgrep -f -- "--state $1 image flatten" >/dev/null || [ -n "$(ls -A "$1/trash" 2>/dev/null)" ]';
  const script = `n=0; while { ${busy}; } && [ $n -lt 600 ]; do sleep 0.1; n=$((n+1)); done; sync -f "$2"`;
  await check(['/bin/sh', '-c', script, 'sh', state, disk], { signal });
}

function exists(file: string): boolean {
  return statSync(file, { throwIfNoEntry: false }) !== undefined;
}
