/** What of qemu is on this host, and whether its processor helps. */
import { accessSync, constants } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { isExecutable } from '../../exec/executable.ts';
import { run } from '../../exec/run.ts';

export const emulator = '/usr/bin/qemu-system-x86_64';

const programs: readonly (readonly [string, string])[] = [
  [emulator, 'qemu-system-x86'],
  ['/sbin/mke2fs', 'e2fsprogs'],
  ['/sbin/debugfs', 'e2fsprogs'],
  ['/usr/bin/setpriv', 'util-linux'],
  ['/usr/bin/ldd', 'libc-bin'],
];

export function qemuUnavailable(): string | undefined {
  if (process.arch !== 'x64') return `qemu: machines of ${process.arch} are not known yet, only of amd64`;
  const [program, package_] = programs.find(([file]) => !isExecutable(file)) ?? [];
  return program === undefined ? undefined : `${program} is missing: apt-get install ${package_}`;
}

let known: Promise<'kvm' | 'tcg'> | undefined;

/** KVM where it works, else emulation, which is many times slower. Found out once for each process. */
export function accelerator(): Promise<'kvm' | 'tcg'> {
  return (known ??= kvmWorks().then((works) => (works ? 'kvm' : 'tcg')));
}

/**
 * By a machine whose whole firmware is `mov al, 16; out 0xf4, al`: that ends qemu with the status 33. /dev/kvm alone tells
 * nothing: on machines that are virtual themselves it may be there and fail.
 */
async function kvmWorks(): Promise<boolean> {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch {
    return false;
  }
  const folder = await mkdtemp(path.join(tmpdir(), 'goldbed-kvm-'));
  try {
    const firmware = Buffer.alloc(65_536, 0xf4);
    firmware.set([0xb0, 0x10, 0xe6, 0xf4], 0xfff0); // where a processor starts
    const file = path.join(folder, 'firmware');
    await writeFile(file, firmware);
    const exit = 'isa-debug-exit,iobase=0xf4,iosize=1';
    const quiet = ['-nodefaults', '-no-user-config', '-display', 'none'];
    const machine = ['-machine', 'pc', '-accel', 'kvm', '-cpu', 'max', '-m', '16', '-bios', file, '-device', exit];
    const { code } = await run([emulator, ...quiet, ...machine], { signal: AbortSignal.timeout(10_000) });
    return code === 33;
  } catch {
    return false; // it hangs, which is not working either
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
