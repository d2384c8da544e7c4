/** Why a job failed for good, as kept in BullMQ's `failedReason`: the class decides the exit code of a waiting CLI. */
import * as z from 'zod';
import {
  exitCodes,
  HostError,
  ImageError,
  Interruption,
  messageOf,
  RefreshFailed,
  TestbedError,
  UsageError,
} from './errors.ts';
import { parseJson } from './json.ts';
import { isHostFailure } from './host-failure.ts';

export const failureSchema = z.object({
  class: z.enum(['usage', 'infrastructure', 'interrupted', 'lost', 'internal']),
  message: z.string(),
});
export type Failure = z.infer<typeof failureSchema>;

export function failureOf(error: unknown): Failure {
  const message = messageOf(error);
  if (error instanceof UsageError) return { class: 'usage', message };
  if (error instanceof TestbedError) {
    return { class: 'infrastructure', message: `${error.backend}: ${error.step}: ${message}` };
  }
  if (error instanceof RefreshFailed || error instanceof ImageError) return { class: 'infrastructure', message };
  if (error instanceof HostError || isHostFailure(error)) return { class: 'infrastructure', message };
  if (error instanceof Interruption) return { class: 'interrupted', message };
  return { class: 'internal', message };
}

/** The error to fail a BullMQ job with. */
export function failureError(failure: Failure, cause: unknown): Error {
  return new Error(JSON.stringify(failure), { cause });
}

/** Whatever stands in `failedReason`; BullMQ writes some itself (a job that was lost too often). */
export function parseFailure(failedReason: string): Failure {
  return failureSchema.safeParse(parseJson(failedReason)).data ?? { class: 'lost', message: failedReason };
}

/** The reason with which a run is cancelled whose deadline has passed. */
export const deadlinePassed = 'its deadline has passed';

export function exitCodeOf(failure: Failure): number {
  switch (failure.class) {
    case 'usage':
      return exitCodes.usage;
    case 'infrastructure':
    case 'lost':
      return exitCodes.infrastructure;
    case 'interrupted':
      return failure.message === deadlinePassed ? exitCodes.notFinished : exitCodes.interrupted;
    case 'internal':
      return exitCodes.internal;
  }
}
