/** What this host tells of itself with each heartbeat. */
import { release } from 'node:os';
import type { Backend } from '../backends/backend.ts';
import { debianArchitecture } from '../exec/debian-architecture.ts';
import { packageVersion } from '../exec/package-file.ts';
import { identityOf } from '../exec/process-identity.ts';
import { run } from '../exec/run.ts';
import { currentGenerations } from '../golden/index.ts';
import type { Presence } from '../protocol/presence.ts';
import { freeDisk } from '../worker/free-disk.ts';
import type { HostGuard } from '../worker/host-guard.ts';
import type { Ledger } from '../worker/ledger.ts';
import type { Context } from './context.ts';
import { offeredImages } from './offers.ts';

export interface DescribedWorker {
  readonly incarnation: string;
  readonly ledger: Ledger;
  readonly guard: Pick<HostGuard, 'troubles'>;
  readonly backends: readonly Backend[];
}

/** @returns what describes the host as it is at the time of each call */
export async function hostDescription(
  context: Context,
  { incarnation, ledger, guard, backends }: DescribedWorker,
): Promise<() => Promise<Presence>> {
  const { state, settings } = context;
  const identity = identityOf();
  if (identity === undefined) throw new Error('cannot read /proc/self/stat');
  const arch = await debianArchitecture();
  const asked = toolVersions();
  const since = Date.now();
  return async () => {
    const missing = await Promise.all(backends.map((backend) => backend.unavailable()));
    const versions = await asked;
    return {
      host: settings.worker.name,
      incarnation,
      ...identity,
      ...describeLedger(ledger),
      images: [...(await offeredImages(context))],
      generations: await currentGenerations(state),
      backends: Object.fromEntries(backends.map(({ name }, index) => [name, missing[index] ?? null])),
      freeDisk: await freeDisk(state.root),
      arch,
      versions,
      troubles: await guard.troubles(),
      since,
    };
  };
}

export function describeLedger(ledger: Ledger) {
  const { slots, busy, capacity, reserved, sizes, keepsRoomFor } = ledger;
  return { slots, busy, capacity, reserved, sizes, ...(keepsRoomFor === undefined ? {} : { keepsRoomFor }) };
}
/** Debian packages, as patterns of dpkg-query: what runs jobs, and what opens their testbeds. */
const tools = [
  ...['sbuild', 'autopkgtest', 'mmdebstrap', 'schroot', 'docker.io', 'docker-ce', 'podman'],
  ...['qemu-system-x86', 'qemu-system-arm', 'qemu-system-misc', 'qemu-system-ppc'],
];

async function toolVersions(): Promise<Record<string, string>> {
  const format = '--showformat=${Package} ${Version} ${db:Status-Status}\\n';
  const { stdout } = await run(['/usr/bin/dpkg-query', '--show', format, ...tools], {}); // whatever its exit code
  const installed = stdout.split('\n').flatMap((line) => {
    const [name, found, status] = line.split(' ');
    return name && found && status === 'installed' ? [[name, found] as const] : [];
  });
  return { goldbed: packageVersion(), node: process.versions.node, linux: release(), ...Object.fromEntries(installed) };
}
