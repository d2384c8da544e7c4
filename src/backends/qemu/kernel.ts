/**
 * The kernel of an image, and the modules that its machine needs before it has its root. They are read out of the image's
 * disk by debugfs(8), which follows no name out of it: what is in an image leads to nothing of the host's.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { check } from '../../exec/run.ts';
import { UsageError } from '../../protocol/errors.ts';

export interface Kernel {
  /** `6.1.0-38-cloud-amd64`. */
  readonly version: string;
  /** Files on the host, in the order in which they are to be loaded. */
  readonly modules: readonly string[];
}

const debugfs = '/sbin/debugfs';

/** The disks, what is on them, the port for commands, the network. One that a kernel has built in is not asked for. */
const wanted = ['virtio_pci', 'virtio_blk', 'virtio_console', 'virtio_net', 'crc32c_generic', 'ext4', 'overlay'];

/** Packages without which an image is no machine. */
export const machinePackages = 'linux-image-cloud-amd64,systemd-sysv';

export function noMachine(what: string): UsageError {
  return new UsageError(
    'qemu',
    `this image has no ${what}, so qemu cannot start it: make one with --include ${machinePackages}`,
  );
}

/**
 * Copies the newest kernel to `folder`/vmlinuz and its modules beside it.
 * @param disk an ext4 file system in a file @throws {UsageError} when there is none
 */
export async function takeKernel(disk: string, folder: string, signal: AbortSignal): Promise<Kernel> {
  const names = await list(disk, '/boot', signal);
  const versions = names.flatMap((name) => /^vmlinuz-([\w.+~-]+)$/.exec(name)?.[1] ?? []);
  const compare = new Intl.Collator('en', { numeric: true }).compare;
  const version = versions.toSorted(compare).at(-1);
  if (version === undefined) throw noMachine('kernel');
  await dump(disk, [[`/boot/vmlinuz-${version}`, path.join(folder, 'vmlinuz')]], signal);
  const dependencies = path.join(folder, 'modules.dep');
  await dump(disk, [[`/lib/modules/${version}/modules.dep`, dependencies]], signal);
  const known = parseDependencies(await readFile(dependencies, 'utf8'));
  const pairs = inOrder(known, wanted).map((file, i): [string, string] => [
    `/lib/modules/${version}/${file}`,
    path.join(folder, `${String(i).padStart(2, '0')}-${path.basename(file)}`),
  ]);
  await dump(disk, pairs, signal);
  return { version, modules: pairs.map(([, copy]) => copy) };
}

/** Module by name, with what must be loaded before it: modules.dep(5). */
export type Dependencies = ReadonlyMap<string, { readonly file: string; readonly needs: readonly string[] }>;

export function parseDependencies(text: string): Dependencies {
  const lines = text.split('\n').flatMap((line) => {
    const [, file = '', needs = ''] = /^([\w./+-]+): ?([\w./+ -]*)$/.exec(line) ?? [];
    return file === '' || file.split('/').includes('..') ? [] : [{ file, needs: needs.split(' ').filter(Boolean) }];
  });
  return new Map(lines.map(({ file, needs }) => [nameOf(file), { file, needs: needs.map(nameOf) }]));
}

/** Files of the modules, each after what it needs; those that are not known are built in. */
export function inOrder(known: Dependencies, names: readonly string[]): string[] {
  const ordered = new Set<string>();
  const visit = (name: string, above: readonly string[]): void => {
    const found = known.get(name);
    if (found === undefined || above.includes(name)) return;
    for (const need of found.needs) visit(need, [...above, name]);
    ordered.add(found.file);
  };
  for (const name of names) visit(name, []);
  return [...ordered];
}

function nameOf(file: string): string {
  return path
    .basename(file)
    .replace(/\.ko(\.\w+)?$/, '')
    .replaceAll('-', '_');
}

async function list(disk: string, folder: string, signal: AbortSignal): Promise<string[]> {
  const { stdout } = await check([debugfs, '-R', `ls -p ${folder}`, disk], { signal });
  return stdout.split('\n').flatMap((line) => line.split('/')[5] ?? []);
}

/** It reads commands from its standard input, and ends with 0 whatever happens: whoever opens a copy finds it missing. */
async function dump(disk: string, pairs: readonly (readonly [string, string])[], signal: AbortSignal): Promise<void> {
  const commands = pairs.map(([from, to]) => `dump "${from}" "${to}"\n`).join('');
  await check([debugfs, disk], { input: commands, signal });
}
