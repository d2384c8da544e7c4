/**
 * Whether a backend works here, asked again and again: with each heartbeat, and before each claim. The answer is remembered
 * for a moment, and one that does not come in time (a daemon that hangs) is an answer, too: neither may stop a worker.
 */
import { within } from '../exec/patience.ts';
import { messageOf } from '../protocol/errors.ts';
import type { Backend } from './backend.ts';

/** Milliseconds for an answer, and for which it is good. */
const usual = { limit: 3_000, fresh: 5_000 };

export function patient(backend: Backend, times = usual): Backend {
  let known: { readonly missing: string | undefined; readonly at: number } | undefined;
  let asking: Promise<void> | undefined;
  const remember = (missing: string | undefined): void => void (known = { missing, at: performance.now() });
  const ask = async (): Promise<void> => remember(await backend.unavailable().catch(messageOf));
  const late = `${backend.name} has not answered within ${times.limit / 1000} s`;
  return {
    ...backend,
    async unavailable() {
      if (known !== undefined && performance.now() - known.at < times.fresh) return known.missing;
      asking ??= ask().finally(() => (asking = undefined));
      if (known?.missing === late) return late; // one question at a time: the answer to the first will do
      await within(asking, times.limit, () => new Error(late)).catch(() => remember(late));
      return known?.missing;
    },
  };
}
