/** The root file system of a disk image, qcow2 or raw, as a tar file: for those who have images for virtual machines. */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import * as z from 'zod';
import { isRoot } from '../../exec/as-root.ts';
import { isExecutable } from '../../exec/executable.ts';
import { check, CommandFailed, run } from '../../exec/run.ts';
import { UsageError } from '../../protocol/errors.ts';
import { isHostFailure } from '../../protocol/host-failure.ts';

const qemuImg = '/usr/bin/qemu-img';

/** By the end of the file's name: looking into a raw image for another format lets whoever wrote it name host files. */
const formats: Readonly<Record<string, 'qcow2' | 'raw'>> = { '.qcow2': 'qcow2', '.img': 'raw', '.raw': 'raw' };

export function isDiskImage(file: string): boolean {
  return path.extname(file) in formats;
}

/** @param folder private and empty @returns the tar file in it @throws {UsageError} */
export async function unpackDiskImage(file: string, folder: string, signal: AbortSignal): Promise<string> {
  if (!isRoot()) throw new UsageError(file, `${file}: mounting a disk image takes root`);
  const raw = formats[path.extname(file)] === 'qcow2' ? await convert(file, folder, signal) : path.resolve(file);
  const [mountPoint, tar] = ['root', 'root.tar'].map((name) => path.join(folder, name)) as [string, string];
  await mkdir(mountPoint);
  const script = ['/bin/sh', '-c', packRoot, 'sh', raw, mountPoint, tar, ...(await partitionsOf(raw, signal))];
  const argv = ['/usr/bin/unshare', '--mount', '--', ...script];
  const finished = await run(argv, { signal });
  if (finished.code === 0) return tar;
  if (finished.code !== noRoot) throw new CommandFailed(argv, finished); // a full disk, for one: not the image's fault
  const why = finished.stderr.trim().split('\n').at(-1) ?? '';
  throw new UsageError(file, `${file}: no file system in it is the root of a Debian system${why && ` (${why})`}`);
}

/** Status of {@link packRoot}, of its own: neither tar's, nor that of a shell or an unshare(1) that fails. */
const noRoot = 3;

/** The first file system with a dpkg database. `noload`: one that was not unmounted, which must not be written. */
const packRoot = `
  image=$1 root=$2 tar=$3; shift 3
  for place in "$@"; do
    mount -o "ro,nosuid,nodev,noexec,loop,$place" "$image" "$root" ||
      mount -t ext4 -o "ro,noload,nosuid,nodev,noexec,loop,$place" "$image" "$root" || continue
    if [ -e "$root/var/lib/dpkg/status" ]; then
      exec tar --create --directory="$root" --numeric-owner --xattrs --xattrs-include='*' --one-file-system \\
        --format=pax --file="$tar" .
    fi
    umount "$root"
  done
  exit ${noRoot}`;

/** Into a sparse file. What names other files is refused: it would bring in any file of the host's. */
async function convert(file: string, folder: string, signal: AbortSignal): Promise<string> {
  if (!isExecutable(qemuImg)) throw new UsageError(file, `${qemuImg} is missing: apt-get install qemu-utils`);
  const source = path.resolve(file);
  const said = await succeed(file, [qemuImg, 'info', '--output=json', '-f', 'qcow2', source], signal);
  const known = infoSchema.parse(JSON.parse(said));
  const other = known['backing-filename'] ?? known['format-specific']?.data?.['data-file'];
  if (other !== undefined)
    throw new UsageError(file, `${file}: stands on ${other}: qemu-img convert makes it one file`);
  const raw = path.join(folder, 'disk.img');
  await succeed(file, [qemuImg, 'convert', '-f', 'qcow2', '-O', 'raw', source, raw], signal);
  return raw;
}

const infoSchema = z.object({
  'backing-filename': z.string().optional(),
  'format-specific': z.object({ data: z.object({ 'data-file': z.string().optional() }).optional() }).optional(),
});

/** partx(8) counts in these, whatever the disk's own are. */
const sector = 512;

/** Where file systems may be, as options of mount(8), the biggest first; without a partition table the whole of it. */
async function partitionsOf(raw: string, signal: AbortSignal): Promise<string[]> {
  const columns = ['--show', '--noheadings', '--output', 'START,SECTORS'];
  const { stdout } = await run(['/usr/bin/partx', ...columns, raw], { signal });
  const partitions = [...stdout.matchAll(/^ *(\d+) +(\d+)$/gm)].map(
    ([, start, size]) => [Number(start), Number(size)] as const,
  );
  if (partitions.length === 0) return ['offset=0'];
  const biggest = partitions.toSorted(([, one], [, other]) => other - one);
  return biggest.map(([start, size]) => `offset=${start * sector},sizelimit=${size * sector}`);
}

async function succeed(file: string, argv: readonly string[], signal: AbortSignal): Promise<string> {
  try {
    return (await check(argv, { signal })).stdout;
  } catch (error) {
    if (!(error instanceof CommandFailed) || isHostFailure(error)) throw error;
    throw new UsageError(file, `${file}: ${error.stderr.trim().split('\n')[0] ?? 'cannot be read'}`, { cause: error });
  }
}
