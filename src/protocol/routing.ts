/** Queue names: one queue per routing key, so that all jobs of a queue are interchangeable for a host. */
import type { JobKind, JobRequest } from './job-request.ts';
import { sizeNames, usualSize, type Size } from './size.ts';

/** `<kind>.<backend>.<arch>.<size>.<image>`; only the image, last, may hold further dots. */
export type RoutingKey = string;

export interface RoutingParts {
  readonly kind: string;
  readonly backend: string;
  readonly arch: string;
  readonly size: Size;
  readonly image: string;
}

export function routingKey(
  kind: JobKind,
  backend: string,
  arch: string,
  image: string,
  size: Size = usualSize,
): RoutingKey {
  return [kind, backend, arch, size, image].join('.');
}

const keyPattern = new RegExp(String.raw`^([^.]+)\.([^.]+)\.([^.]+)\.(${sizeNames.join('|')})\.(.+)$`);

/** Undefined for a queue that is none of ours. */
export function parseRoutingKey(key: RoutingKey): RoutingParts | undefined {
  const [, kind, backend, arch, size, image] = keyPattern.exec(key) ?? [];
  if (kind === undefined || backend === undefined || arch === undefined || image === undefined) return undefined;
  return { kind, backend, arch, size: size as Size, image };
}

export function routingKeyOf(request: JobRequest, arch: string): RoutingKey {
  return routingKey(request.kind, request.backend, arch, request.image, request.size);
}

/** Whether a job's id is one that becomes a path: another program may have put anything into a queue. */
export function isRunId(id: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$/.test(id);
}

/** Milliseconds for which a run that has ended is remembered. */
export const remembered = 30 * 86_400_000;

/** Names of what goldbed keeps in Redis beside BullMQ's own keys. `p` is the configured prefix. */
export const redisKeys = (p: string) => ({
  /** BullMQ's prefix. */
  queues: `${p}:q`,
  /** String: the number of the latest run of a request. */
  latestRun: (requestId: string) => `${p}:request:${requestId}`,
  /**
   * Hash of a run: `queue`, `kind`, `image`, `what`, `submitted` (ms), `tenant`; `avoid`: hosts on which its testbed
   * failed; `waits` (waits.ts): the refresh that it waits for; `labels`, with blanks between; `parked`: what is paused
   * (paused.ts), so that it was put off; `leftBy`: the host that left it to the others last; `deadline` (ms).
   */
  run: (runId: string) => `${p}:run:${runId}`,
  /** Sorted set of run ids by submission time (ms). */
  runs: `${p}:runs`,
  /** Sorted set of the runs that carry a label, by submission time (ms). */
  label: (label: string) => `${p}:label:${label}`,
  /** Sorted set of run ids by the time (ms) at which they are to be cancelled. */
  deadlines: `${p}:deadlines`,
  /** Hash: what an operator has paused (paused.ts), with the reason. */
  paused: `${p}:paused`,
  /** String: durable intent to cancel a run; the value is the reason. */
  cancel: (runId: string) => `${p}:cancel:${runId}`,
  /** Sorted set of running workers, scored by the time (ms) until which their heartbeat counts. */
  workers: `${p}:workers`,
  /** Hash: what each of them says of itself (presence.ts). */
  workerDetails: `${p}:worker-details`,
  /** Sorted set: routing keys of queues that have something to claim, scored by the time (ms) since when. */
  ready: `${p}:ready`,
  /** Sorted set: routing keys of all queues of late, scored by the time (ms) of the last enqueue. */
  known: `${p}:known`,
  /** Hash of a queue: `now`, and `of:<tenant>`, as virtual times (redis/fair.ts). */
  fair: (key: RoutingKey) => `${p}:fair:${key}`,
  /** String: the incarnation of the worker that keeps its room for the first job of a queue. Expires. */
  room: (key: RoutingKey) => `${p}:room:${key}`,
  /** String: the incarnation of the worker that looks after the whole fleet. Expires. */
  coordinator: `${p}:coordinator`,
  /** String: the incarnation of the worker whose /metrics tells of the whole fleet. Expires. */
  fleetMetrics: `${p}:fleet-metrics`,
  /** Hash: hosts that take no jobs because an operator said so, with the reason (presence.ts). */
  drained: `${p}:drained`,
  /** Hash: the queue in which the scheduler of an image is, by image. */
  schedules: `${p}:schedules`,
  /** Lease of an image: JSON with owner, fence, since. */
  lease: (image: string) => `${p}:lease:${image}`,
  /** Sorted set: who waits for the lease of an image, as the lease names its owner, scored by the time (ms) of the last try. */
  leaseWaits: (image: string) => `${p}:lease-waits:${image}`,
  /** Counter: the last fence given out for an image. Never expires. */
  fence: (image: string) => `${p}:fence:${image}`,
  /** Channel: JSON nudges `{enqueued: key}` and `{cancel: runId}`. Lossy by design. */
  nudges: `${p}:nudges`,
});
export type RedisKeys = ReturnType<typeof redisKeys>;
