/** The one switch: what becomes of a job whose run threw. A returned outcome completes the job and never comes here. */
import { HostError, ImageError, Interruption, LeaseLost, TestbedError } from '../protocol/errors.ts';
import { isHostFailure } from '../protocol/host-failure.ts';
import type { RetriedClass } from './budgets.ts';

export type Verdict =
  /** Fails this attempt; runs again while the budget of its class lasts. */
  | { readonly kind: 'retry'; readonly of: RetriedClass }
  /** Fails the job for good. */
  | { readonly kind: 'stop' }
  /** Back to the queue as if never claimed. */
  | { readonly kind: 'give-back' }
  /** Another owner may already run it. */
  | { readonly kind: 'hands-off' };

export function judge(error: unknown): Verdict {
  if (error instanceof LeaseLost) return { kind: 'hands-off' };
  if (error instanceof Interruption) return { kind: error.reason === 'shutdown' ? 'give-back' : 'stop' };
  if (error instanceof TestbedError) return { kind: 'retry', of: 'testbed' };
  if (error instanceof ImageError) return { kind: 'retry', of: 'image' };
  if (error instanceof HostError || isHostFailure(error)) return { kind: 'retry', of: 'host' };
  return { kind: 'stop' }; // UsageError, RefreshFailed; and our own bug: trying again would only repeat it
}
