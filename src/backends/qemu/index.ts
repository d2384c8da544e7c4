/**
 * qemu: testbeds are machines, with a kernel and an init of their own, which can reboot. The generation is a disk that is
 * only read; a second disk takes the changes, as an overlayfs upper layer on it: the same that any other backend makes.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { isRoot } from '../../exec/as-root.ts';
import { tooLongForSocket } from '../../exec/socket-path.ts';
import type { BackendSettings, Backend } from '../backend.ts';
import { reapSessionFolders, type SessionState } from '../session-folder.ts';
import { qemuUnavailable } from './emulator.ts';
import { reapMachineFiles } from './machine-files.ts';
import { machineName } from './machine.ts';
import { longestSocket, openTestbed, traits } from './testbed.ts';

export function qemuBackend(state: SessionState, settings: BackendSettings['qemu']): Backend {
  return {
    name: 'qemu',
    traits,
    revert: true,
    reboot: true,
    unavailable: async () => qemuUnavailable() ?? tooLongForSocket(longestSocket(state)),
    cannotKeep: async () =>
      isRoot() ? undefined : 'qemu: writing an image takes root, to mount the disk of its machine',
    open: (content, options, signal) => openTestbed(state, settings, content, options, signal),
    async reap() {
      const reaped = await reapSessionFolders(state, 'qemu', async (sessionId) => killMachines(machineName(sessionId)));
      await reapMachineFiles(state);
      return reaped;
    },
  };
}

/** They die with their session; this is for one whose session was killed while it was starting it. */
function killMachines(name: string): void {
  for (const pid of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    if (argvOf(pid).some((word, i, argv) => word === name && argv[i - 1] === '-name')) {
      try {
        process.kill(Number(pid), 'SIGKILL');
      } catch {} // it was faster
    }
  }
}

function argvOf(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    return [];
  }
}
