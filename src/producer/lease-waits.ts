/** A job that writes an image runs, and yet waits: for whoever writes it now. */
import type { LeaseInfo } from '../redis/lease-view.ts';
import type { RunDetails } from './runs.ts';

type Writer = Pick<RunDetails, 'id' | 'kind' | 'image' | 'state'>;

/** The images that these jobs write. */
export function imagesWritten(runs: readonly Writer[]): string[] {
  const writers = runs.filter(({ kind, state }) => kind === 'update-golden' && state === 'active');
  return [...new Set(writers.flatMap(({ image }) => image ?? []))];
}

/** Undefined for a job that does not wait for a lease. */
export function leaseReason(
  { id, kind, image = '' }: Writer,
  leases: ReadonlyMap<string, LeaseInfo>,
  now: number,
): [string] | undefined {
  const lease = leases.get(image);
  // a job's lease is in the name of its kind and id (make-host.ts)
  if (!lease?.waiting.some(({ owner }) => owner === `${kind} ${id}`)) return undefined;
  const since = Math.max(0, Math.round((now - lease.since) / 1000));
  return [`waits for the write lease of ${image}, held by ${lease.owner} for ${since} s`];
}
