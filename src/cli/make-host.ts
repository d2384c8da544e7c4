/** Joins images and backends of this host for the worker. */
import { randomUUID } from 'node:crypto';
import type { Backend, Content } from '../backends/backend.ts';
import { externalServer } from '../backends/external.ts';
import { patient } from '../backends/availability.ts';
import { nativeBackends } from '../backends/index.ts';
import type { ExternalImage } from '../config/load.ts';
import { keepFor, verifyFor } from '../config/policy.ts';
import { debianArchitecture } from '../exec/debian-architecture.ts';
import { packageFile } from '../exec/package-file.ts';
import { imageSource, pinGeneration, readHead, refOf, type CheckContent, type FenceSource } from '../golden/index.ts';
import { layoutOf } from '../golden/layout.ts';
import { headGeneration } from '../golden/store.ts';
import { startInProcess } from '../protocol/adt-virt/pair.ts';
import { TestbedError } from '../protocol/errors.ts';
import type { BackendChoice } from '../protocol/job-request.ts';
import type { Testbed } from '../protocol/testbed.ts';
import type { Log } from '../worker/handle.ts';
import type { CandidateCheck, Host, OpenedImage, RanOn, SessionOwner } from '../worker/host.ts';
import { reaperOf } from '../worker/reap.ts';
import { allowsBackend, ifAllowed, requireAllowedImage, requireKnownBackends } from './allowed.ts';
import type { Context } from './context.ts';

export interface HostParts {
  readonly host: Host;
  readonly backends: readonly Backend[];
}

/** Seconds for one copy into or out of a testbed; autopkgtest's own default. */
const copyTimeout = 300;

/** @param leases the right to write images, in the name of a job */
export function makeHost(
  context: Context,
  socketFolder: string,
  leases: (job: string) => FenceSource,
  log: Log,
): HostParts {
  const { settings, state } = context;
  const backends = backendsOf(context);
  const host: Host = {
    name: settings.worker.name,
    state,
    socketFolder,
    virtProgram: packageFile('bin/goldbed-virt'),
    clients: settings.clients,
    sizes: settings.sizes,
    minFreeDisk: settings.worker.minFreeDisk,
    reap: reaperOf(backends, log),
    keepGenerations: (image) => keepFor(settings.images, image),
    async openImage(image, choice, job) {
      requireAllowedImage(settings, image);
      const external = settings.external[image];
      if (external !== undefined && ['any', 'external'].includes(choice) && allowsBackend(settings, 'external')) {
        return openExternal(image, external);
      }
      return openNative(context, await choose(backends, choice), image, leases, job);
    },
    canaryOf: (image) => settings.images.policy[image]?.canary,
    async makingTools(image, runId, progress, check) {
      const by = `update-golden ${runId}`;
      const sessionId = randomUUID().replaceAll('-', '');
      const backend = await choose(backends, 'any');
      const own = {
        sessionId,
        by,
        job: runId,
        ...verifyFor(settings.images.policy, image),
        ...lookAt({ ...(await readHead(state, image)).recipe, image, backend }, check),
      };
      return { store: state, leases: leases(by), backend, progress, ...own };
    },
  };
  return { host, backends };
}

/** Those that work here are among them, and those that do not. @throws {ConfigError} */
export function backendsOf({ settings, state }: Context): readonly Backend[] {
  requireKnownBackends(settings);
  return nativeBackends(state, settings).map((backend) => ifAllowed(settings, patient(backend)));
}

/** What a job would run on now; undefined when nothing would. @param choice may be `any` */
export async function expectedOn(
  { settings, state }: Context,
  backends: readonly Backend[],
  image: string,
  choice: string,
): Promise<RanOn | undefined> {
  if (settings.external[image] !== undefined && ['any', 'external'].includes(choice))
    return { image, backend: 'external', generation: undefined };
  const generation = await headGeneration(layoutOf(state, image)).catch(() => undefined);
  for (const backend of backends) {
    if (choice !== 'any' && choice !== backend.name) continue;
    if ((await backend.unavailable()) === undefined) return { image, backend: backend.name, generation };
  }
  return undefined;
}

/** The one asked for; for `any` the first that works here. @throws {TestbedError} with the reasons */
export async function choose(backends: readonly Backend[], choice: BackendChoice): Promise<Backend> {
  const reasons: string[] = [];
  for (const backend of backends) {
    if (choice !== 'any' && choice !== backend.name) continue;
    const missing = await backend.unavailable();
    if (missing === undefined) return backend;
    reasons.push(`${backend.name}: ${missing}`);
  }
  throw new TestbedError('start', choice, reasons.join('; ') || `this host has no backend ${choice} for it`);
}

async function openNative(
  { state, settings }: Context,
  backend: Backend,
  image: string,
  leases: (job: string) => FenceSource,
  { runId, kind, onSession }: SessionOwner,
): Promise<OpenedImage> {
  const what = `${kind} ${runId}`;
  const golden = kind === 'update-golden' && (await backend.cannotKeep?.()) === undefined;
  const pin = await pinGeneration(state, image, { sessionId: `job-${randomUUID()}`, what, job: runId });
  const { record } = pin;
  const sourceWith = (check: CandidateCheck | undefined, sessionId: string) =>
    imageSource({
      store: state,
      image,
      backend,
      leases: leases(what),
      sessionId,
      generation: record.generation,
      golden,
      ...verifyFor(settings.images.policy, image),
      who: { by: what, job: runId, what },
      ...lookAt({ ...record.recipe, image, backend }, check),
    });
  return {
    image,
    async start(log, signal, check) {
      const sessionId = randomUUID().replaceAll('-', '');
      onSession?.(sessionId);
      return startInProcess(sourceWith(check, sessionId), { log, copyTimeout, signal });
    },
    generation: refOf(record),
    backend: backend.name,
    suite: record.recipe.suite,
    arch: record.recipe.arch,
    [Symbol.asyncDispose]: () => pin[Symbol.asyncDispose](),
  };
}

interface Candidate {
  readonly image: string;
  readonly backend: Backend;
  readonly suite: string;
  readonly arch: string;
}

/** A candidate is looked at like any image: with sessions of its own. */
function lookAt(candidate: Candidate, check: CandidateCheck | undefined): { readonly check?: CheckContent } {
  if (check === undefined) return {};
  return { check: (content, signal) => check(openCandidate(candidate, content), signal) };
}

function openCandidate({ image, backend, suite, arch }: Candidate, content: Content): OpenedImage {
  const { name, traits, revert, reboot } = backend;
  const open = (signal: AbortSignal): Promise<Testbed> =>
    backend.open(content, { sessionId: randomUUID().replaceAll('-', '') }, signal);
  const source = { name, traits, revert, reboot, open };
  return {
    image,
    start: async (log, signal) => startInProcess(source, { log, copyTimeout, signal }),
    backend: name,
    suite,
    arch,
    async [Symbol.asyncDispose]() {},
  };
}

async function openExternal(image: string, { server, suite, arch }: ExternalImage): Promise<OpenedImage> {
  const program = externalServer(server, process.env);
  const missing = await program.unavailable();
  if (missing !== undefined) throw new TestbedError('start', 'external', missing);
  return {
    image,
    start: (log, signal) => program.start(log, signal),
    backend: 'external',
    suite,
    arch: arch ?? (await debianArchitecture()),
    async [Symbol.asyncDispose]() {},
  };
}
