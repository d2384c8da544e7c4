/** What this host can run: its own images on the backends that work here, and those of external servers. */
import type { Backend } from '../backends/backend.ts';
import { debianArchitecture } from '../exec/debian-architecture.ts';
import { imageNames } from '../golden/index.ts';
import { routingKey, type RoutingKey } from '../protocol/routing.ts';
import type { Size } from '../protocol/size.ts';
import type { Announced } from '../worker/presence.ts';
import { allowsBackend, allowsImage } from './allowed.ts';
import type { Context } from './context.ts';

/** The images of this host. */
export async function knownImages({ state, settings }: Context): Promise<readonly string[]> {
  const own = await imageNames(state);
  return [...new Set([...own, ...Object.keys(settings.external)])].toSorted();
}

/** Those of them that jobs may use here. */
export async function offeredImages(context: Context): Promise<readonly string[]> {
  const images = await knownImages(context);
  return images.filter((image) => allowsImage(context.settings, image));
}

export interface Offering {
  readonly backends: readonly Backend[];
  /** Those that fit this host. */
  readonly sizes: readonly Size[];
}
/** Milliseconds for which a look at the backends holds: it is asked before each claim, and daemons are asked in turn. */
const lookHolds = 5_000;

/** The queues that this host takes jobs from; tells the others when its images have changed. */
export function offersOf(
  context: Context,
  { backends, sizes }: Offering,
  presence: Announced,
): () => Promise<readonly RoutingKey[]> {
  let announced = '';
  let known = { working: [] as string[], at: -Infinity };
  return async () => {
    const arch = await debianArchitecture();
    if (performance.now() - known.at >= lookHolds) {
      known = { working: await workingBackends(backends), at: performance.now() };
    }
    const { working } = known;
    const images = await offeredImages(context);
    if (announced !== images.join(' ')) await presence.update();
    announced = images.join(' ');
    const { external } = context.settings;
    return images.flatMap((image) => {
      const foreign = external[image];
      if (foreign !== undefined && !allowsBackend(context.settings, 'external')) return [];
      // the host's, as for its own images: producers know of no other, and what its testbeds are is sbuild's affair
      if (foreign !== undefined) return keys(['build', 'test'], ['any', 'external'], arch, image, sizes);
      return keys(['update-golden', 'build', 'test'], ['any', ...working], arch, image, sizes);
    });
  };
}

async function workingBackends(backends: readonly Backend[]): Promise<string[]> {
  const missing = await Promise.all(backends.map((backend) => backend.unavailable()));
  return backends.flatMap(({ name }, index) => (missing[index] === undefined ? [name] : []));
}

function keys(
  kinds: readonly ('update-golden' | 'build' | 'test')[],
  backends: readonly string[],
  arch: string,
  image: string,
  sizes: readonly Size[],
): RoutingKey[] {
  const each = (kind: (typeof kinds)[number], backend: string): RoutingKey[] =>
    sizes.map((size) => routingKey(kind, backend, arch, image, size));
  return kinds.flatMap((kind) => backends.flatMap((backend) => each(kind, backend)));
}
