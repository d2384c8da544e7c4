/** What this host tells of itself with each heartbeat. */
import { readFileSync } from 'node:fs';
import type { Backend } from '../backends/backend.ts';
import { debianArchitecture } from '../exec/debian-architecture.ts';
import { packageFile } from '../exec/package-file.ts';
import { identityOf } from '../exec/process-identity.ts';
import { run } from '../exec/run.ts';
import { currentGenerations } from '../golden/index.ts';
import type { Presence } from '../protocol/presence.ts';
import { freeDisk } from '../worker/free-disk.ts';
import type { HostGuard } from '../worker/host-guard.ts';
import type { Slots } from '../worker/slots.ts';
import type { Context } from './context.ts';
import { offeredImages } from './offers.ts';

export interface DescribedWorker {
  readonly incarnation: string;
  readonly slots: Slots;
  readonly guard: Pick<HostGuard, 'troubles'>;
  readonly backends: readonly Backend[];
}

/** @returns what describes the host as it is at the time of each call */
export async function hostDescription(
  context: Context,
  { incarnation, slots, guard, backends }: DescribedWorker,
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
      slots: slots.total,
      busy: slots.total - slots.free,
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

async function toolVersions(): Promise<Record<string, string>> {
  const { version } = JSON.parse(readFileSync(packageFile('package.json'), 'utf8')) as { version: string };
  const query = ['/usr/bin/dpkg-query', '--show', '--showformat=${Package} ${Version}\\n', 'sbuild', 'autopkgtest'];
  const { stdout } = await run(query, {}); // names those that are installed, whatever its exit code
  const tools = stdout.split('\n').flatMap((line) => {
    const [name, found] = line.split(' ');
    return name && found ? [[name, found] as const] : [];
  });
  return { goldbed: version, node: process.versions.node, ...Object.fromEntries(tools) };
}
