/**
 * How a write of an image ended when it published nothing, noted where `image ls` and `image show` look. Whoever knows most
 * about a write notes its end: the client that ran the steps, the bridge that watched a stranger, the one that bootstrapped.
 * A note that cannot be made (a full disk) changes nothing: what was published stands, what failed has failed.
 */
import { messageOf } from '../protocol/errors.ts';
import { keepEvidence } from './failed.ts';
import { layoutOf, type ImageStore } from './layout.ts';
import { noteUpdate } from './looked.ts';

export type Ending =
  | { readonly status: 'unchanged' }
  | {
      readonly status: 'failed';
      readonly step: string;
      readonly reason: string;
      /** What was said on the way, for whoever asks why. */
      readonly log: string;
      /** As manifest.ts makes it, where the packages could be told. */
      readonly manifest: string | undefined;
    };

export interface WriteAttempt {
  readonly store: ImageStore;
  readonly image: string;
  readonly by: string;
  readonly job?: string;
  /** The generation that is current still. */
  readonly base: number;
}

/** Never throws. @param complain gets why it could not be noted */
export async function noteEnding(
  { store, image, by, job, base }: WriteAttempt,
  ending: Ending,
  complain: (line: string) => void,
): Promise<void> {
  const who = { by, ...(job === undefined ? {} : { job }) };
  try {
    if (ending.status === 'unchanged')
      return await noteUpdate(store, image, { status: 'unchanged', generation: base }, who);
    const { step, log, manifest } = ending;
    const reason = ending.reason.startsWith(`${step}: `) ? ending.reason.slice(step.length + 2) : ending.reason;
    await noteUpdate(store, image, { status: 'failed', step, reason }, who);
    await keepEvidence(layoutOf(store, image), { ...who, base, step, reason, log, manifest });
  } catch (error) {
    complain(`goldbed: how the update of ${image} ended cannot be noted: ${messageOf(error)}`);
  }
}
