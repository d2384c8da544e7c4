/**
 * What a schedule puts into the queue of its image's updates: a token, no run. Claimed, it becomes a refresh like that of
 * anybody else, so that it joins one that is under way. Claiming it is also what puts the next one into the queue; so there
 * is never more than one, however many nights nobody came for it.
 */
import { messageOf } from '../protocol/errors.ts';
import { updateRequestSchema, type UpdateRequest } from '../protocol/job-request.ts';
import type { Claimed } from './claimed.ts';
import type { Log } from './handle.ts';

/** BullMQ's ids for the jobs of schedulers; our own runs have no colon. */
export function isScheduled({ runId }: Pick<Claimed, 'runId'>): boolean {
  return runId.startsWith('repeat:');
}

/** Never rejects. @param begin @returns the run */
export async function beginScheduled(
  claimed: Claimed,
  begin: (request: UpdateRequest) => Promise<string>,
  log: Log,
): Promise<void> {
  try {
    const request = updateRequestSchema.safeParse(claimed.data);
    if (!request.success) {
      log(`${claimed.runId}: not begun: its request cannot be read`);
      return await claimed.fail(new Error('malformed queue entry'), { retry: false });
    }
    const run = await begin(request.data); // before the token is given up: whatever kills us, the run is asked for
    await claimed.drop();
    log(`${request.data.image}: its schedule asks for ${run}`);
  } catch (error) {
    log(`${claimed.runId}: cannot be begun: ${messageOf(error)}`);
  }
}
