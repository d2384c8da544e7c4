/** Making an image: the bootstrap of generation 1, or of a replacement for the whole of an image. */
import { access, constants, mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { check } from '../exec/run.ts';
import { messageOf, UsageError } from '../protocol/errors.ts';
import { hostAptOptions } from './apt-options.ts';
import { existingSources } from './apt-probe.ts';
import { candidatesFor, distributionArchive, hostTargets, signedBy } from './apt-sources.ts';
import { bootstrap, bootstrapChecks, manifestOfRoot, mmdebstrap, type BootstrapPlan } from './bootstrap.ts';
import type { Candidate } from './candidate.ts';
import { layoutOf } from './layout.ts';
import { exists, newGeneration, type CreateTools, type FilledRoot, type FillRoot } from './new-generation.ts';
import { imported, type GenerationRecord, type Recipe } from './record.ts';
import { headGeneration, readHead } from './store.ts';
import { together } from './together.ts';

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

/** @throws {UsageError} what was asked cannot be done; {TestbedError} bootstrapping failed; {GoldenRefusal} locked */
export async function createImage(
  request: CreateRequest,
  tools: CreateTools,
  signal: AbortSignal,
): Promise<GenerationRecord> {
  const layout = layoutOf(tools.store, request.name);
  if ((await headGeneration(layout)) !== undefined) throw exists(request.name);
  const plan = await planOf(request, signal);
  return newGeneration(request.name, 'create', tools, (...asked) => fill(plan, ...asked), signal);
}

/**
 * Bootstraps an existing image anew, by its own recipe: the answer to "an upgraded image is not a fresh one".
 * @param variant mmdebstrap's, instead of the recipe's
 */
export async function replaceImage(
  image: string,
  tools: CreateTools,
  signal: AbortSignal,
  variant?: string,
): Promise<GenerationRecord> {
  const request = requestAnew(image, (await readHead(tools.store, image)).recipe, variant);
  // planned as part of the write: an archive that is away is a failed refresh, too
  const make: FillRoot = async (...asked) => fill(await planOf(request, signal), ...asked);
  return newGeneration(image, 'replace', tools, make, signal);
}

/** How to bootstrap an existing image anew. @throws {UsageError} it was imported: nobody has said how */
export function requestAnew(image: string, recipe: Recipe, variant?: string): CreateRequest {
  const wanted = { name: image, ...recipe, ...(variant === undefined ? {} : { variant }) };
  if (recipe.variant !== imported) return wanted;
  if (variant === undefined) {
    throw new UsageError(
      image,
      `${image} was imported: what to bootstrap is not known; say it with --variant, as in: goldbed image replace ${image} --variant buildd`,
    );
  }
  const { components: _, ...known } = wanted; // an import knows none: the host's own
  return known;
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
  const [sources, aptOptions, hostArch] = await together([
    existingSources(request.suite, candidates, signedBy('', origin), signal),
    hostAptOptions(signal),
    check(['/usr/bin/dpkg', '--print-architecture'], { signal }),
  ]);
  const arch = request.arch ?? hostArch.stdout.trim();
  const recipe = {
    suite: request.suite,
    variant: request.variant ?? 'buildd',
    include: [...(request.include ?? [])],
    arch,
    components: [...(sources[0]?.components ?? [])],
  };
  for (const word of [recipe.variant, recipe.arch, ...recipe.components]) requireWord(word, 'word');
  return { recipe, sources, origin, aptOptions };
}

async function fill(
  plan: BootstrapPlan,
  { directory, layerDirectory }: Candidate,
  progress: (line: string) => void,
  signal: AbortSignal,
): Promise<FilledRoot> {
  const temporary = path.join(directory, 'tmp');
  await mkdir(temporary, { mode: 0o755 });
  try {
    await bootstrap(plan, layerDirectory, temporary, progress, signal);
  } catch (error) {
    signal.throwIfAborted();
    const [, unknown] = /(?:Unable to locate package|invalid variant:?) (\S+)/i.exec(messageOf(error)) ?? [];
    if (unknown !== undefined) throw new UsageError(unknown, messageOf(error), { cause: error });
    throw error;
  }
  return {
    recipe: plan.recipe,
    manifest: await manifestOfRoot(layerDirectory, signal),
    sources: sourceNames(plan),
    verified: bootstrapChecks(layerDirectory),
  };
}

/** `URI RELEASE COMPONENT`, without user names and passwords. */
function sourceNames(plan: BootstrapPlan): string[] {
  return plan.sources.flatMap(({ uri, release, components }) =>
    components.map((component) => `${uri.replace(/\/\/[^/@]*@/, '//')} ${release} ${component}`),
  );
}

/** It becomes an argument of mmdebstrap or a word of sources.list. */
function requireWord(word: string, what: string): void {
  if (!/^[A-Za-z0-9][A-Za-z0-9._+/-]*$/.test(word)) throw new UsageError(word, `'${word}' is not a ${what}`);
}
