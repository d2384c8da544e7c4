/** Who writes an image, and who waits to, in a few words. */
import type { KnownLease } from './leases.ts';
import { age } from './print.ts';

/** `job u1234 (fence 7, 40 s)` */
export function writerText({ owner, fence, since }: Pick<KnownLease, 'owner' | 'fence' | 'since'>): string {
  const known = fence === undefined ? '' : `fence ${fence}, `;
  return `${owner} (${known}${age(since, Date.now())})`;
}

/** The first one first; empty when nobody waits. */
export function waitingText(waiting: KnownLease['waiting']): string {
  return waiting.map(({ owner, since }) => `${owner} (${age(since, Date.now())})`).join(', ');
}
