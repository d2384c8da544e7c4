/** Who writes an image, and who waits to, in a few words. */
import type { LeaseInfo } from '../golden/lease.ts';
import { age } from './print.ts';

/** `job u1234 (fence 7, 40 s)` */
export function writerText({ owner, fence, since }: Pick<LeaseInfo, 'owner' | 'fence' | 'since'>): string {
  return `${owner} (fence ${fence}, ${age(since, Date.now())})`;
}

/** The first one first; empty when nobody waits. */
export function waitingText(waiting: LeaseInfo['waiting']): string {
  return waiting.map(({ owner, since }) => `${owner} (${age(since, Date.now())})`).join(', ');
}
