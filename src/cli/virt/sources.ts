/** The backends of goldbed-virt, by the name on its command line. */
import { randomUUID } from 'node:crypto';
import { nullSource } from '../../backends/null.ts';
import { overlayBackend } from '../../backends/overlay/index.ts';
import { defaultStateRoot, stateAt } from '../../config/state.ts';
import { imageSource, localLeases, readHead } from '../../golden/index.ts';
import { userName } from '../../exec/user-name.ts';
import { UsageError } from '../../protocol/errors.ts';
import type { TestbedSource } from '../../protocol/testbed.ts';

export interface VirtBackend {
  readonly usage: string;
  readonly what: string;
  /** Undefined when the arguments are not its own. @throws {UsageError} */
  source(args: readonly string[]): Promise<TestbedSource | undefined>;
  unavailable(): Promise<string | undefined>;
  /** Removes what killed sessions left on this host. */
  reap(): Promise<void>;
}

/** Seconds for which open-golden waits for another writer; GOLDBED_GOLDEN_WAIT. */
const defaultWait = 30;

export function virtBackends(env: NodeJS.ProcessEnv): Readonly<Record<string, VirtBackend>> {
  const uid = process.getuid?.() ?? 0;
  const state = stateAt(defaultStateRoot(env, uid));
  const overlay = overlayBackend(state);
  return {
    overlay: {
      usage: 'overlay IMAGE',
      what: 'a disposable root over the current generation of an image',
      async source([image, ...rest]) {
        if (image === undefined || rest.length > 0) return undefined;
        await readHead(state, image); // an unknown image ends the server before it says ok
        const sessionId = randomUUID().replaceAll('-', '');
        const who = { by: userName(), what: 'goldbed-virt' };
        const wait = Number(env['GOLDBED_GOLDEN_WAIT'] || defaultWait);
        if (!(wait >= 0)) throw new UsageError('GOLDBED_GOLDEN_WAIT', 'GOLDBED_GOLDEN_WAIT: expected seconds');
        const leases = localLeases(state, wait);
        return imageSource({ store: state, image, backend: overlay, leases, sessionId, who });
      },
      unavailable: () => overlay.unavailable(),
      reap: async () => void (await overlay.reap()),
    },
    null: {
      usage: 'null',
      what: 'this host itself, without any isolation',
      source: async (args) => (args.length === 0 ? nullSource(uid) : undefined),
      unavailable: async () => undefined,
      reap: async () => {},
    },
  };
}
