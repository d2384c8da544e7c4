/**
 * Who may publish: the claim at the store. A lease (Redis, or local) is for liveness; this is for safety, and needs neither
 * clock nor network: a fence counts only if it is greater than every one seen here before, and publishing requires that
 * the claim still be one's own. Written under the image's lock only.
 */
import * as z from 'zod';
import { readJson, writeDurably } from '../../exec/durable.ts';
import { ownIdentity, processIdentitySchema } from '../../exec/process-identity.ts';
import type { ImageLayout } from '../layout.ts';
import type { Writer } from './generation-store.ts';

const claimSchema = z.object({
  v: z.literal(1),
  /** Never decreases. */
  fence: z.number().int().nonnegative(),
  owner: z.object({ process: processIdentitySchema, by: z.string() }),
  /** Set while a generation is being moved in: it counts only if head points to it. */
  publishing: z.number().int().positive().optional(),
});
export type Claim = z.infer<typeof claimSchema>;

export async function readClaim(layout: ImageLayout): Promise<Claim | undefined> {
  return readJson(layout.claim, claimSchema);
}

export async function writeClaim(layout: ImageLayout, claim: Claim): Promise<void> {
  await writeDurably(layout.claim, `${JSON.stringify(claim)}\n`);
}

export function claimOf({ fence, by }: Writer): Claim {
  return { v: 1, fence, owner: { process: ownIdentity(), by } };
}
