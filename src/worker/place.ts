/** Whether a job is in the queue that it belongs to: the host has offered the queue's image and backend, not the job's. */
import { UsageError } from '../protocol/errors.ts';
import type { JobRequest } from '../protocol/job-request.ts';
import { parseRoutingKey, routingKeyOf, type RoutingKey } from '../protocol/routing.ts';

/** @throws {UsageError} it asks for something else than its queue stands for: whoever put it there did not go our way */
export function requirePlace(key: RoutingKey, request: JobRequest): void {
  const belongs = routingKeyOf(request, parseRoutingKey(key)?.arch ?? '');
  if (belongs === key) return;
  throw new UsageError('queue', `malformed queue entry: found in the queue ${key}, but it belongs to ${belongs}`);
}
