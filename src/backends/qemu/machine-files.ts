/**
 * What a machine is started from: the generation as a disk that is only read, its kernel and the modules for the start.
 * Made once for each digest and host; a cache, which goes when its generation does.
 */
import { existsSync, readdirSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { flock } from '../../exec/flock.ts';
import { check } from '../../exec/run.ts';
import { discard } from '../../exec/trash.ts';
import type { Content } from '../backend.ts';
import { inMergedTree } from '../layers/merged.ts';
import type { SessionState } from '../session-folder.ts';
import { noMachine, takeKernel } from './kernel.ts';

export interface MachineFiles {
  /** An ext4 file system, nothing around it. */
  readonly disk: string;
  readonly kernel: string;
  /** In the order in which they are to be loaded. */
  readonly modules: readonly string[];
}

/** Changes whenever a generation becomes other files than before. */
const version = 1;

/** @param folder of the session: holds the files of content that has no digest @throws {UsageError} no machine */
export async function machineFiles(
  state: SessionState,
  content: Content,
  folder: string,
  signal: AbortSignal,
): Promise<MachineFiles> {
  requireMachine(content);
  if (content.digest === undefined) {
    const own = path.join(folder, 'image');
    await mkdir(own);
    await make(content, own, signal);
    return filesIn(own);
  }
  const cache = path.join(state.backends, 'qemu');
  const kept = path.join(cache, `${version}-${content.digest.replace(/^sha256:/, '')}`);
  if (existsSync(kept)) return filesIn(kept);
  await mkdir(cache, { recursive: true, mode: 0o700 });
  await using _ = await flock(path.join(cache, 'make.lock'), signal); // a hundred sessions, one disk
  if (existsSync(kept)) return await filesIn(kept);
  await sweepDrafts(cache, state.trash);
  const draft = await mkdtemp(path.join(cache, 'draft-'));
  try {
    await make(content, draft, signal);
    await rename(draft, kept);
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
  return await filesIn(kept);
}

/** Removes what belongs to generations that are gone. */
export async function reapMachineFiles(state: SessionState): Promise<void> {
  const cache = path.join(state.backends, 'qemu');
  for (const name of await readdir(cache).catch(() => [])) {
    const layers = await readFile(path.join(cache, name, 'layers'), 'utf8').catch(() => undefined);
    const gone = layers?.split('\n').some((layer) => !existsSync(layer));
    if (gone === true) await discard(path.join(cache, name), state.trash);
  }
}

/** Early, and only so that a person need not wait for a disk to be made: takeKernel is the one who knows. */
function requireMachine({ layers }: Content): void {
  const has = (folder: string, pattern: RegExp): boolean =>
    layers.some((layer) => namesIn(path.join(layer, folder)).some((name) => pattern.test(name)));
  if (!has('boot', /^vmlinuz-/)) throw noMachine('kernel');
  if (!has('usr/sbin', /^init$/) && !has('sbin', /^init$/)) throw noMachine('/sbin/init');
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Of a maker that was killed: whoever holds the lock is the only one. */
async function sweepDrafts(cache: string, trash: string): Promise<void> {
  const drafts = (await readdir(cache)).filter((name) => name.startsWith('draft-'));
  for (const name of drafts) await discard(path.join(cache, name), trash);
}

/** Room for the files, and a tenth for what the file system itself takes; the disk is never written. */
const makeDisk = `
  blocks=$(du --summarize --block-size=4096 . | cut -f 1) &&
  inodes=$(du --summarize --inodes . | cut -f 1) &&
  exec /sbin/mke2fs -q -F -t ext4 -b 4096 -m 0 -O ^has_journal,^resize_inode -E lazy_itable_init=1,root_owner=0:0 \\
    -N $((inodes + 1024)) -d . "$1" $((blocks + blocks / 10 + inodes / 16 + 16384))`;

async function make(content: Content, folder: string, signal: AbortSignal): Promise<void> {
  const [disk, mountPoint] = ['disk.img', 'merged'].map((name) => path.join(folder, name)) as [string, string];
  await mkdir(mountPoint);
  await check(inMergedTree(content, mountPoint, makeDisk, [disk]), { signal });
  const kernel = await takeKernel(disk, folder, signal);
  await writeFile(path.join(folder, 'modules'), kernel.modules.map((file) => path.basename(file)).join('\n'));
  await writeFile(path.join(folder, 'layers'), content.layers.join('\n'));
}

async function filesIn(folder: string): Promise<MachineFiles> {
  const modules = (await readFile(path.join(folder, 'modules'), 'utf8')).split('\n').filter(Boolean);
  return {
    disk: path.join(folder, 'disk.img'),
    kernel: path.join(folder, 'vmlinuz'),
    modules: modules.map((name) => path.join(folder, name)),
  };
}
