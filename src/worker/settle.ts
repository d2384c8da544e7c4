/** The one switch: what becomes of a job whose run threw. A returned outcome completes the job and never comes here. */
import { Interruption, LeaseLost, RefreshFailed, TestbedError, UsageError } from '../protocol/errors.ts';

export type Verdict =
  /** Fails this attempt; runs again while the budget of infrastructure retries lasts. */
  | { readonly kind: 'retry' }
  /** Fails the job for good. */
  | { readonly kind: 'stop' }
  /** Back to the queue as if never claimed. */
  | { readonly kind: 'give-back' }
  /** Another owner may already run it. */
  | { readonly kind: 'hands-off' };

export function judge(error: unknown): Verdict {
  if (error instanceof LeaseLost) return { kind: 'hands-off' };
  if (error instanceof Interruption) return { kind: error.reason === 'shutdown' ? 'give-back' : 'stop' };
  if (error instanceof TestbedError) return { kind: 'retry' };
  if (error instanceof UsageError || error instanceof RefreshFailed) return { kind: 'stop' };
  return { kind: 'stop' }; // our own bug: trying again would only repeat it
}
