/** Making an image: the bootstrap of generation 1, or of a replacement for the whole of an image. */
import { access, constants, mkdir, readFile, statfs } from 'node:fs/promises';
import path from 'node:path';
import type { Backend } from '../backends/backend.ts';
import { check } from '../exec/run.ts';
import { messageOf, TestbedError, UsageError } from '../protocol/errors.ts';
import { hostAptOptions } from './apt-options.ts';
import { existingSources } from './apt-probe.ts';
import { candidatesFor, distributionArchive, hostTargets, signedBy } from './apt-sources.ts';
import { bootstrap, bootstrapChecks, manifestOfRoot, mmdebstrap, type BootstrapPlan } from './bootstrap.ts';
import { beginWrite, type Candidate } from './candidate.ts';
import { highestFence } from './claim.ts';
import type { FenceSource } from './fence-source.ts';
import { freshSession } from './fresh-session.ts';
import { layoutOf, type ImageStore } from './layout.ts';
import type { GenerationRecord, Strategy } from './record.ts';
import { headGeneration, readHead } from './store.ts';

export interface CreateRequest {
  readonly name: string;
  readonly suite: string;
  /** mmdebstrap's; default `buildd`. */
  readonly variant?: string;
  readonly include?: readonly string[];
  /** Default: those of the host's own sources. */
  readonly components?: readonly string[];
  /** Debian's name of the architecture; default: the host's. */
  readonly arch?: string;
}

/** What making an image needs from outside. */
export interface CreateTools {
  readonly store: ImageStore;
  readonly leases: FenceSource;
  /** Opens a first session before publishing, where given. */
  readonly backend?: Backend;
  readonly sessionId: string;
  /** Who asked. */
  readonly by: string;
  readonly job?: string;
  /** For a person to watch. */
  readonly progress: (line: string) => void;
}

/** Bytes that a bootstrap takes at its widest: mmdebstrap's own copy and ours. */
const roomNeeded = 1.5e9;

/** @throws {UsageError} what was asked cannot be done; {TestbedError} bootstrapping failed; {GoldenRefusal} locked */
export async function createImage(
  request: CreateRequest,
  tools: CreateTools,
  signal: AbortSignal,
): Promise<GenerationRecord> {
  const layout = layoutOf(tools.store, request.name);
  if ((await headGeneration(layout)) !== undefined) throw exists(request.name);
  const plan = await planOf(request, signal);
  return make(plan, 'create', request.name, tools, signal);
}

/** Bootstraps an existing image anew, by its own recipe: the answer to "an upgraded image is not a fresh one". */
export async function replaceImage(image: string, tools: CreateTools, signal: AbortSignal): Promise<GenerationRecord> {
  const { recipe } = await readHead(tools.store, image);
  const plan = await planOf({ name: image, ...recipe }, signal);
  return make(plan, 'replace', image, tools, signal);
}

async function planOf(request: CreateRequest, signal: AbortSignal): Promise<BootstrapPlan> {
  await access(mmdebstrap, constants.X_OK).catch(() => {
    throw new UsageError(mmdebstrap, `${mmdebstrap} is missing: apt-get install mmdebstrap`);
  });
  requireWord(request.suite, 'suite');
  const osRelease = await readFile('/etc/os-release', 'utf8').catch(() => '');
  const targets = await hostTargets(signal);
  const candidates = candidatesFor(request.suite, targets, osRelease, request.components);
  const origin = distributionArchive(targets, osRelease)[0]?.origin ?? '';
  const sources = await existingSources(request.suite, candidates, signedBy('', origin), signal);
  const arch = request.arch ?? (await check(['/usr/bin/dpkg', '--print-architecture'], { signal })).stdout.trim();
  const recipe = {
    suite: request.suite,
    variant: request.variant ?? 'buildd',
    include: [...(request.include ?? [])],
    arch,
    components: [...(sources[0]?.components ?? [])],
  };
  for (const word of [recipe.variant, recipe.arch, ...recipe.components]) requireWord(word, 'word');
  return { recipe, sources, origin, aptOptions: await hostAptOptions(signal) };
}

async function make(
  plan: BootstrapPlan,
  strategy: Strategy,
  image: string,
  tools: CreateTools,
  signal: AbortSignal,
): Promise<GenerationRecord> {
  const { store, leases } = tools;
  await mkdir(store.images, { recursive: true, mode: 0o755 });
  await requireRoom(store);
  await using lease = await leases.acquire(image, await highestFence(store, image), signal);
  const stop = AbortSignal.any([signal, lease.signal]);
  await using candidate = await beginWrite(store, image, { fence: lease.fence, by: tools.by }, stop);
  if (strategy === 'create' && candidate.base !== undefined) throw exists(image);
  const verified = [...bootstrapChecks];
  try {
    await fill(plan, candidate, tools, stop);
    verified.push(...(await opened(candidate, tools, stop)));
  } catch (error) {
    throw await candidate.explain(error);
  }
  const details = {
    strategy,
    recipe: plan.recipe,
    manifest: await manifestOfRoot(candidate.layerDirectory, stop),
    tools: await versions(stop),
    sources: sourceNames(plan),
    verified,
    ...(tools.job === undefined ? {} : { job: tools.job }),
  };
  tools.progress('goldbed: computing the digest');
  return await candidate.publish(details, stop);
}

async function fill(plan: BootstrapPlan, candidate: Candidate, tools: CreateTools, signal: AbortSignal): Promise<void> {
  const temporary = path.join(candidate.directory, 'tmp');
  await mkdir(temporary, { mode: 0o755 });
  try {
    await bootstrap(plan, candidate.layerDirectory, temporary, tools.progress, signal);
  } catch (error) {
    signal.throwIfAborted();
    const [, unknown] = /(?:Unable to locate package|invalid variant:?) (\S+)/i.exec(messageOf(error)) ?? [];
    if (unknown !== undefined) throw new UsageError(unknown, messageOf(error), { cause: error });
    throw error;
  }
}

/** @returns the check that passed, if there was a backend to make it */
async function opened(candidate: Candidate, tools: CreateTools, signal: AbortSignal): Promise<string[]> {
  if (tools.backend === undefined) return [];
  const content = { layers: [candidate.layerDirectory] };
  return [await freshSession(tools.backend, content, tools.sessionId, signal)];
}

/** `URI RELEASE COMPONENT`, without user names and passwords. */
function sourceNames(plan: BootstrapPlan): string[] {
  return plan.sources.flatMap(({ uri, release, components }) =>
    components.map((component) => `${uri.replace(/\/\/[^/@]*@/, '//')} ${release} ${component}`),
  );
}

async function versions(signal: AbortSignal): Promise<Record<string, string>> {
  const { stdout } = await check([mmdebstrap, '--version'], { signal });
  return { mmdebstrap: stdout.replace('mmdebstrap', '').trim() };
}

async function requireRoom(store: ImageStore): Promise<void> {
  const { bavail, bsize } = await statfs(store.images);
  const free = bavail * bsize;
  if (free >= roomNeeded) return;
  const [has, wants] = [free, roomNeeded].map((bytes) => `${(bytes / 1e9).toFixed(1)} GB`);
  throw new TestbedError('start', 'mmdebstrap', `${store.images} has ${has} free; making an image takes ${wants}`);
}

/** It becomes an argument of mmdebstrap or a word of sources.list. */
function requireWord(word: string, what: string): void {
  if (!/^[A-Za-z0-9][A-Za-z0-9._+/-]*$/.test(word)) throw new UsageError(word, `'${word}' is not a ${what}`);
}

function exists(image: string): UsageError {
  return new UsageError(image, `the image ${image} exists already`);
}
