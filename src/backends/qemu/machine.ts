/** One run of qemu: from power on to power off. A guest that reboots ends it, and is started again by whoever wanted that. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { stripVTControlCharacters } from 'node:util';
import * as z from 'zod';
import { killGroup, start } from '../../exec/run.ts';
import { parseJson } from '../../protocol/json.ts';
import { emulator } from './emulator.ts';
import { listen } from './listen.ts';

export interface MachinePlan {
  readonly sessionId: string;
  readonly kernel: string;
  readonly initrd: string;
  /** Read only. */
  readonly baseDisk: string;
  readonly changesDisk: string;
  /** A listening socket, which gets the agent's port. */
  readonly agentSocket: string;
  /** Where a socket for its console is made. */
  readonly consoleSocket: string;
  readonly accelerator: 'kvm' | 'tcg';
  /** Megabytes. */
  readonly memory: number;
  readonly cpus: number;
}

export interface Machine {
  /** Settles with why it ended, as qemu names it (`guest-shutdown`, `guest-reset`, ...), or `killed`. Never rejects. */
  readonly ended: Promise<string>;
  /** What it said last on its console, in one line. */
  lastWords(): string;
  /** Settles when it is gone. Idempotent. */
  kill(): Promise<void>;
}

/** By this reap() finds the processes of a session. */
export function machineName(sessionId: string): string {
  return `goldbed-${sessionId}`;
}

export async function startMachine(plan: MachinePlan): Promise<Machine> {
  let said = '';
  const hear = (chunk: Buffer): void => void (said = (said + chunk.toString()).slice(-4096));
  const console = await listen(plan.consoleSocket, (socket) => socket.on('data', hear));
  // setpriv: the kernel kills it when we die, whatever kills us (prctl(2), PR_SET_PDEATHSIG)
  const argv = ['/usr/bin/setpriv', '--pdeathsig', 'KILL', '--', emulator, ...argumentsOf(plan)];
  const child = start(argv, ['pipe', 'pipe', 'pipe']);
  child.stdin?.on('error', () => {}); // its end is told below
  child.stdin?.write('{"execute":"qmp_capabilities"}\n');
  child.stderr?.on('data', hear);
  const ended = endOf(child).finally(() => console.close());
  return {
    ended,
    lastWords: () => lastWords(said),
    async kill() {
      killGroup(child, 'SIGKILL');
      await ended;
    },
  };
}

/** What libexec/qemu-init complained of, else the last lines. */
function lastWords(said: string): string {
  const lines = stripVTControlCharacters(said).replaceAll('\r', '').trim().split('\n');
  const panic = lines.findIndex((line) => line.includes('Kernel panic'));
  const ours = lines.findLast((line) => line.startsWith('goldbed: '));
  return ours ?? (panic < 0 ? lines : lines.slice(0, panic + 1)).slice(-3).join('; ');
}

const eventSchema = z.object({ event: z.literal('SHUTDOWN'), data: z.object({ reason: z.string() }) });

async function endOf(child: ChildProcess): Promise<string> {
  let reason = 'killed';
  if (child.stdout !== null) {
    createInterface({ input: child.stdout }).on('line', (line) => {
      const event = eventSchema.safeParse(parseJson(line));
      if (event.success) reason = event.data.data.reason;
    });
  }
  await once(child, 'close').catch((error: unknown) => (reason = String(error)));
  return reason;
}

/** qemu(1). Nothing of the host's configuration; the monitor is standard input and output. */
function argumentsOf(plan: MachinePlan): string[] {
  const file = (name: string): string => name.replaceAll(',', ',,');
  return [
    ...['-name', machineName(plan.sessionId), '-nodefaults', '-no-user-config', '-display', 'none'],
    ...['-machine', 'pc', '-accel', plan.accelerator, '-cpu', 'max'],
    ...['-m', String(plan.memory), '-smp', String(plan.cpus)],
    ...['-kernel', plan.kernel, '-initrd', plan.initrd, '-append', kernelArguments],
    ...['-drive', `file=${file(plan.baseDisk)},format=raw,if=virtio,readonly=on`],
    // unsafe: a disk that no session outlives need not survive a power cut of the host
    ...['-drive', `file=${file(plan.changesDisk)},format=raw,if=virtio,cache=unsafe`],
    ...['-device', 'virtio-serial-pci', '-chardev', `socket,id=agent,path=${file(plan.agentSocket)}`],
    ...['-device', 'virtserialport,chardev=agent,name=goldbed'],
    ...['-netdev', 'user,id=net', '-device', 'virtio-net-pci,netdev=net,romfile='],
    ...['-device', 'virtio-rng-pci'],
    ...['-chardev', `socket,id=console,path=${file(plan.consoleSocket)}`, '-serial', 'chardev:console'],
    ...['-chardev', 'stdio,id=monitor,signal=off', '-mon', 'chardev=monitor,mode=control'],
    ...['-no-reboot', '-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
  ];
}

/** Units of Debian's that work on the system by themselves, as no testbed should: they hold apt's locks, and take time. */
const masked = [
  ...['apt-daily.timer', 'apt-daily-upgrade.timer', 'dpkg-db-backup.timer', 'man-db.timer', 'fstrim.timer'],
  ...['e2scrub_all.timer', 'e2scrub_reap.service', 'systemd-machine-id-commit.service'],
];

/**
 * kernel-parameters.txt: a kernel that panics ends the machine at once; the network card is eth0, whoever names it; what
 * the fstab of an imported image mounts is not there (systemd-fstab-generator(8)).
 */
const kernelArguments = [
  'console=ttyS0 quiet panic=-1 net.ifnames=0 fstab=no',
  ...masked.map((unit) => `systemd.mask=${unit}`),
].join(' ');
