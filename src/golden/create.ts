/** Making an image: the bootstrap of generation 1, or of a replacement for the whole of an image. */
import { access, constants, mkdir, readFile, statfs } from 'node:fs/promises';
import path from 'node:path';
import type { Backend } from '../backends/backend.ts';
import { isExecutable } from '../exec/executable.ts';
import { check } from '../exec/run.ts';
import { messageOf, TestbedError, UsageError } from '../protocol/errors.ts';
import type { Argv } from '../protocol/testbed.ts';
import { hostAptOptions } from './apt-options.ts';
import { existingSources } from './apt-probe.ts';
import { candidatesFor, distributionArchive, hostTargets, signedBy } from './apt-sources.ts';
import { bootstrap, bootstrapChecks, manifestOfRoot, mmdebstrap, type BootstrapPlan } from './bootstrap.ts';
import { beginWrite, type Candidate } from './candidate.ts';
import { highestFence, requireWritable } from './claim.ts';
import type { FenceSource } from './fence-source.ts';
import { freshSession, type CheckContent } from './fresh-session.ts';
import { layoutOf, type ImageStore } from './layout.ts';
import type { GenerationRecord, Recipe, Strategy } from './record.ts';
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
  /** Commands that must end with 0 on what is to be published. Need a backend. */
  readonly verify?: readonly Argv[];
  /** A further look at what is to be published. Needs a backend. */
  readonly check?: CheckContent;
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

/** How to make it, from the host's own apt configuration. @throws {UsageError} */
export async function planOf(request: CreateRequest, signal: AbortSignal): Promise<BootstrapPlan> {
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

function make(
  plan: BootstrapPlan,
  strategy: 'create' | 'replace',
  image: string,
  tools: CreateTools,
  signal: AbortSignal,
): Promise<GenerationRecord> {
  return newGeneration(image, strategy, tools, signal, async (candidate, stop) => {
    await fill(plan, candidate, tools, stop);
    return {
      recipe: plan.recipe,
      manifest: await manifestOfRoot(candidate.layerDirectory, stop),
      sources: sourceNames(plan),
      verified: bootstrapChecks,
    };
  });
}

/** What is known about a root when it is there. */
export interface FilledRoot {
  readonly recipe: Recipe;
  /** As manifest.ts makes it. */
  readonly manifest: string;
  readonly sources: readonly string[];
  /** Checks that it has passed already. */
  readonly verified: readonly string[];
}

/**
 * A generation that stands on no other: `fillRoot` makes the whole root in the candidate's empty layer; a session is
 * opened on it; then it is published. @throws {GoldenRefusal} locked; what `fillRoot` throws
 */
export async function newGeneration(
  image: string,
  strategy: Exclude<Strategy, 'upgrade'>,
  tools: CreateTools,
  signal: AbortSignal,
  fillRoot: (candidate: Candidate, signal: AbortSignal) => Promise<FilledRoot>,
): Promise<GenerationRecord> {
  const { store, leases } = tools;
  await mkdir(store.images, { recursive: true, mode: 0o755 });
  await requireWritable(store.images);
  await requireRoom(store);
  await using lease = await leases.acquire(image, await highestFence(store, image), signal);
  const stop = AbortSignal.any([signal, lease.signal]);
  await using candidate = await beginWrite(store, image, { fence: lease.fence, by: tools.by }, stop);
  if (strategy !== 'replace' && candidate.base !== undefined) throw exists(image);
  try {
    const filled = await fillRoot(candidate, stop);
    const verified = [...filled.verified, ...(await opened(candidate, tools, stop))];
    tools.progress('goldbed: computing the digest');
    const job = tools.job === undefined ? {} : { job: tools.job };
    return await candidate.publish({ ...filled, strategy, tools: await versions(stop), verified, ...job }, stop);
  } catch (error) {
    throw await candidate.explain(error);
  }
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

/** @returns the checks that passed, if there was a backend to make them */
async function opened(candidate: Candidate, tools: CreateTools, signal: AbortSignal): Promise<string[]> {
  if (tools.backend === undefined) return [];
  const content = { layers: [candidate.layerDirectory] };
  return freshSession(tools.backend, content, tools, signal);
}

/** `URI RELEASE COMPONENT`, without user names and passwords. */
function sourceNames(plan: BootstrapPlan): string[] {
  return plan.sources.flatMap(({ uri, release, components }) =>
    components.map((component) => `${uri.replace(/\/\/[^/@]*@/, '//')} ${release} ${component}`),
  );
}

async function versions(signal: AbortSignal): Promise<Record<string, string>> {
  if (!isExecutable(mmdebstrap)) return {}; // an import does without
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
