/** The backends of goldbed-virt, by the name on its command line. */
import { randomUUID } from 'node:crypto';
import type { Backend } from '../../backends/backend.ts';
import { nativeBackends } from '../../backends/index.ts';
import { existingChroot } from '../../backends/schroot/existing.ts';
import { nullSource } from '../../backends/null.ts';
import { loadSettings, type Settings } from '../../config/load.ts';
import { keepFor, verifyFor } from '../../config/policy.ts';
import { stateAt, type State } from '../../config/state.ts';
import { keepSignsIn } from '../../exec/sign-of-life.ts';
import { userName } from '../../exec/user-name.ts';
import {
  bridge,
  collect,
  imageNames,
  imageSource,
  isWritable,
  localLeases,
  readHead,
  reapPins,
  type BridgeEnd,
  type Refused,
} from '../../golden/index.ts';
import { UsageError } from '../../protocol/errors.ts';
import { progress } from '../print.ts';
import { canaryNotRun, noteBridged, noteRefused } from '../write-notes.ts';
import type { TestbedSource } from '../../protocol/testbed.ts';

export interface VirtBackend {
  readonly usage: string;
  readonly what: string;
  /** Undefined when the arguments are not its own. @throws {UsageError} */
  source(args: readonly string[]): Promise<TestbedSource | undefined>;
  /** The same for clients that do not know the golden verbs: src/golden/bridge.ts. */
  bridge(args: readonly string[], log: (line: string) => void): Promise<TestbedSource | undefined>;
  unavailable(): Promise<string | undefined>;
  /** Removes what killed sessions left on this host. */
  reap(): Promise<void>;
}

const what: Record<Backend['name'], string> = {
  overlay: 'a disposable root over the current generation of an image',
  docker: 'a container of the local docker daemon on the current generation of an image',
  schroot: 'an schroot session on the current generation of an image, or on a chroot of this host',
  qemu: 'a machine of qemu on the current generation of an image, which needs a kernel in it',
};

/** @throws {ConfigError} */
export function virtBackends(env: NodeJS.ProcessEnv): Readonly<Record<string, VirtBackend>> {
  const uid = process.getuid?.() ?? 0;
  const settings = loadSettings(env, uid);
  const state = stateAt(settings.state);
  keepSignsIn(state.processes);
  const native = nativeBackends(state, settings).map((backend) => [
    backend.name,
    onImages(backend, state, settings.images, env),
  ]);
  return {
    ...(Object.fromEntries(native) as Record<string, VirtBackend>),
    null: {
      usage: 'null',
      what: 'this host itself, without any isolation',
      source: async (args) => (args.length === 0 ? nullSource(uid) : undefined),
      bridge: async (args, log) => (args.length === 0 ? bridge(nullSource(uid), 'commit', log).source : undefined),
      unavailable: async () => undefined,
      reap: async () => {},
    },
  };
}

/** Milliseconds for which open-golden waits for another writer; GOLDBED_GOLDEN_WAIT, in seconds. */
function goldenWait(env: NodeJS.ProcessEnv): number {
  const seconds = Number(env['GOLDBED_GOLDEN_WAIT'] || 30);
  if (!(seconds >= 0)) throw new UsageError('GOLDBED_GOLDEN_WAIT', 'GOLDBED_GOLDEN_WAIT: expected seconds');
  return seconds * 1000;
}

const onWait = (line: string): void => progress(`goldbed-virt: ${line}`);

function onImages(backend: Backend, state: State, images: Settings['images'], env: NodeJS.ProcessEnv): VirtBackend {
  const published = new Set<string>();
  const source = async ([image, ...rest]: readonly string[], bridged: boolean): Promise<TestbedSource | undefined> => {
    if (image === undefined || rest.length > 0) return undefined;
    const sessionId = randomUUID().replaceAll('-', '');
    const isImage = (await imageNames(state)).includes(image);
    const existing = isImage ? undefined : await otherThanImage(backend, state, image, sessionId);
    if (existing !== undefined) return existing;
    await readHead(state, image); // an unknown image ends the server before it says ok
    const who = { by: userName(), what: 'goldbed-virt' };
    const write = { store: state, image, by: who.by };
    return imageSource({
      store: state,
      image,
      backend,
      leases: localLeases(state, { by: who.by, wait: goldenWait(env), onWait }),
      sessionId,
      who,
      golden: (await backend.cannotKeep?.()) === undefined && (await isWritable(state, image)),
      onPublished: () => void published.add(image),
      notRun: () => canaryNotRun(images.policy[image]?.canary, 'goldbed-virt'),
      ...(bridged ? {} : { onRefused: (refused: Refused) => noteRefused(write, refused) }),
      ...verifyFor(images.policy, image),
    });
  };
  return {
    usage: `${backend.name} IMAGE${backend.name === 'schroot' ? '|CHROOT' : ''}`,
    what: what[backend.name],
    source: (args) => source(args, false),
    async bridge(args, log) {
      const inner = await source(args, true);
      const note = (end: BridgeEnd): Promise<void> =>
        noteBridged({ store: state, image: args[0] ?? '', by: userName() }, end);
      return inner && bridge(inner, 'commit', log, note).source;
    },
    unavailable: () => backend.unavailable(),
    async reap() {
      await backend.reap((line) => progress(`goldbed-virt: ${line}`));
      await reapPins(state);
      for (const image of published)
        await collect(state, image, { keep: keepFor(images, image), signal: new AbortController().signal });
    },
  };
}

/** Names that a backend knows besides images. */
async function otherThanImage(
  backend: Backend,
  state: State,
  name: string,
  sessionId: string,
): Promise<TestbedSource | undefined> {
  return backend.name === 'schroot' ? existingChroot(state, name, sessionId) : undefined;
}
