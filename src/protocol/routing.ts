/** Queue names: one queue per routing key, so that all jobs of a queue are interchangeable for a host. */
import type { JobKind, JobRequest } from './job-request.ts';

/** `<kind>.<backend>.<arch>.<size>.<image>`; only the image, last, may hold further dots. */
export type RoutingKey = string;

/** A fixed reservation of CPU, memory and disk. Only one size so far. */
export type Size = 'm';

export function routingKey(kind: JobKind, backend: string, arch: string, image: string, size: Size = 'm'): RoutingKey {
  return [kind, backend, arch, size, image].join('.');
}

export function routingKeyOf(request: JobRequest, arch: string): RoutingKey {
  return routingKey(request.kind, request.backend, arch, request.image);
}

/** Names of what goldbed keeps in Redis beside BullMQ's own keys. `p` is the configured prefix. */
export const redisKeys = (p: string) => ({
  /** BullMQ's prefix. */
  queues: `${p}:q`,
  /** String: the number of the latest run of a request. */
  latestRun: (requestId: string) => `${p}:request:${requestId}`,
  /** Hash of a run: `queue`, `request` id, `submitted` (ms). */
  run: (runId: string) => `${p}:run:${runId}`,
  /** Sorted set of run ids by submission time (ms). */
  runs: `${p}:runs`,
  /** String: durable intent to cancel a run; the value is the reason. */
  cancel: (runId: string) => `${p}:cancel:${runId}`,
  /** Sorted set of running workers, scored by the time (ms) until which their heartbeat counts. */
  workers: `${p}:workers`,
  /** Hash: what each of them says of itself (presence.ts). */
  workerDetails: `${p}:worker-details`,
  /** Lease of an image: JSON with owner, fence, since. */
  lease: (image: string) => `${p}:lease:${image}`,
  /** Counter: the last fence given out for an image. Never expires. */
  fence: (image: string) => `${p}:fence:${image}`,
  /** Channel: JSON nudges `{enqueued: key}` and `{cancel: runId}`. Lossy by design. */
  nudges: `${p}:nudges`,
});
export type RedisKeys = ReturnType<typeof redisKeys>;
