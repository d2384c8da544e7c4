/** What Node does not tell: system call numbers, which the Perl helpers in libexec/ need, by Node's `process.arch`; a flag. */

/** Of open(2): the file itself is not opened. From linux/fcntl.h, for all architectures that Debian has. */
export const O_PATH = 0o10000000;

export interface SyscallNumbers {
  readonly mount: number;
  readonly umount2: number;
  readonly pivot_root: number;
  readonly setns: number;
  readonly sendmsg: number;
  readonly recvmsg: number;
  readonly openat: number;
  readonly sendfile: number;
}

const generic: SyscallNumbers = {
  mount: 40,
  umount2: 39,
  pivot_root: 41,
  setns: 268,
  sendmsg: 211,
  recvmsg: 212,
  openat: 56,
  sendfile: 71,
};

/** Debian's release architectures that Node runs on. */
const table: Partial<Record<NodeJS.Architecture, SyscallNumbers>> = {
  x64: { mount: 165, umount2: 166, pivot_root: 155, setns: 308, sendmsg: 46, recvmsg: 47, openat: 257, sendfile: 40 },
  arm64: generic,
  riscv64: generic,
  loong64: generic,
  arm: { mount: 21, umount2: 52, pivot_root: 218, setns: 375, sendmsg: 296, recvmsg: 297, openat: 322, sendfile: 187 },
  ia32: { mount: 21, umount2: 52, pivot_root: 217, setns: 346, sendmsg: 370, recvmsg: 372, openat: 295, sendfile: 187 },
  ppc64: {
    mount: 21,
    umount2: 52,
    pivot_root: 203,
    setns: 350,
    sendmsg: 341,
    recvmsg: 342,
    openat: 286,
    sendfile: 186,
  },
  s390x: {
    mount: 21,
    umount2: 52,
    pivot_root: 217,
    setns: 339,
    sendmsg: 370,
    recvmsg: 372,
    openat: 288,
    sendfile: 187,
  },
};

export function syscallNumbers(arch: NodeJS.Architecture = process.arch): SyscallNumbers | undefined {
  return table[arch];
}
