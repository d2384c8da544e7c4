/** What the image commands share: words of their command lines, and the signal that ends them. */
import { randomUUID } from 'node:crypto';
import { overlayBackend } from '../../backends/overlay/index.ts';
import { verifyFor } from '../../config/policy.ts';
import { userName } from '../../exec/user-name.ts';
import type { CreateTools } from '../../golden/index.ts';
import { Interruption, UnavailableError, UsageError } from '../../protocol/errors.ts';
import type { Context } from '../context.ts';
import { commandLeases } from '../leases.ts';
import { progress } from '../print.ts';
import { canaryNotRun } from '../write-notes.ts';

/** @throws {UsageError} */
export function generationNumber(word: string | undefined): number | undefined {
  if (word === undefined) return undefined;
  if (!/^[1-9]\d{0,8}$/.test(word)) throw new UsageError(word, `${word}: expected the number of a generation`);
  return Number(word);
}

/** `--lock-wait` of the commands that write an image by themselves. */
export const lockWaitOption = ['--lock-wait <SECONDS>', 'how long to wait for another writer', '30'] as const;

/** Of the commands that bootstrap anew. */
export const variantOption = [
  '--variant <VARIANT>',
  'mmdebstrap’s variant; default: that of the image’s recipe',
] as const;

/** Fires at the first ^C or SIGTERM, or when the terminal closes, with an {@link Interruption}. @param stop what is aborted */
export function stopSignal(stop = new AbortController()): AbortSignal {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.once(signal, () => stop.abort(new Interruption('cancelled', `stopped by ${signal}`)));
  return stop.signal;
}

/** For making a generation in this process, without a worker. @throws {UnavailableError} */
export async function makingTools({ settings, state }: Context, image: string, lockWait: string): Promise<CreateTools> {
  const backend = overlayBackend(state);
  const missing = await backend.unavailable();
  if (missing !== undefined) throw new UnavailableError(missing);
  const verify = verifyFor(settings.images.policy, image);
  const sessionId = randomUUID().replaceAll('-', '');
  const by = userName();
  const leases = commandLeases(state, by, lockWait);
  const notRun = () => canaryNotRun(settings.images.policy[image]?.canary, 'this command');
  return { store: state, leases, backend, sessionId, by, progress, notRun, ...verify };
}
