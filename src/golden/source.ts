/**
 * Joins an image to a backend: what the protocol's server serves. Sessions open on a pinned generation; a golden session
 * holds the write lease, works on a candidate, and publishes it at commit.
 */
import type { Backend } from '../backends/backend.ts';
import { generationId, type GenerationRef } from '../protocol/image.ts';
import type { Argv, Testbed, TestbedSource } from '../protocol/testbed.ts';
import type { FenceSource } from './fence-source.ts';
import type { CheckContent } from './fresh-session.ts';
import { openGoldenTestbed } from './golden-testbed.ts';
import type { ImageStore } from './layout.ts';
import { pinGeneration } from './pins.ts';
import { refOf } from './record.ts';
import { withDispose } from './with-dispose.ts';

export interface ImageSourceOptions {
  readonly store: ImageStore;
  readonly image: string;
  readonly backend: Backend;
  /** The right to write. */
  readonly leases: FenceSource;
  /** Names what the session has on the host; see Backend. One testbed at a time. */
  readonly sessionId: string;
  readonly who: {
    /** A user, a schedule. */
    readonly by: string;
    readonly job?: string;
    /** For `image show`: `build hello_2.10-3`. Default: `by`. */
    readonly what?: string;
  };
  /** Sessions open this generation; default: the current one. Golden sessions always write on the current one. */
  readonly generation?: number;
  /** Whether the image can be written; default true. */
  readonly golden?: boolean;
  /** Commands that must end with 0 on what is to be published. */
  readonly verify?: readonly Argv[];
  /** A further look at what is to be published. */
  readonly check?: CheckContent;
  /** Checks that are wanted and not made here, with the reason: the record says so. */
  readonly notRun?: () => readonly string[];
  /** Told which generation a session has opened, for the job's result. */
  readonly onOpened?: (generation: GenerationRef) => void;
  /** Told what a golden session has published. */
  readonly onPublished?: (generation: GenerationRef) => void;
  /** Told why a golden session could not commit, where its client does not note that by itself; never throws. */
  readonly onRefused?: (refused: Refused) => Promise<void>;
}

/** A candidate that was not good enough. */
export interface Refused {
  /** The generation that is current still. */
  readonly base: number;
  readonly reason: string;
  /** As manifest.ts makes it, where the packages could be told. */
  readonly manifest: string | undefined;
}

export function imageSource(options: ImageSourceOptions): TestbedSource {
  const { backend } = options;
  return {
    name: backend.name,
    traits: backend.traits,
    revert: backend.revert,
    reboot: backend.reboot,
    ...(backend.prepare === undefined ? {} : { prepare: backend.prepare.bind(backend) }),
    open: (signal) => openPinned(options, signal),
    ...(options.golden === false ? {} : { openGolden: (signal) => openGoldenTestbed(options, signal) }),
  };
}

/** @throws {UsageError} when there is no such image or generation; {TestbedError} */
async function openPinned(options: ImageSourceOptions, signal: AbortSignal): Promise<Testbed> {
  const { store, image, backend, sessionId, who, generation } = options;
  const pin = await pinGeneration(store, image, {
    sessionId,
    what: who.what ?? who.by,
    ...(who.job === undefined ? {} : { job: who.job }),
    ...(generation === undefined ? {} : { generation }),
  });
  try {
    const testbed = await backend.open(pin.content, { sessionId }, signal);
    options.onOpened?.(refOf(pin.record));
    const dispose = async (): Promise<void> => {
      try {
        await testbed[Symbol.asyncDispose]();
      } finally {
        await pin[Symbol.asyncDispose]();
      }
    };
    // assign, not spread: `auxverb` is a getter
    return Object.assign(withDispose(testbed, dispose), { generationId: generationId(pin.record) });
  } catch (error) {
    await pin[Symbol.asyncDispose]();
    throw error;
  }
}
