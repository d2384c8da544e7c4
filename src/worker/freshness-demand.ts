/** What a job asks of its image's freshness, and whether an image has it. */
import type { Freshness } from '../golden/index.ts';
import { UsageError } from '../protocol/errors.ts';
import type { JobRequest } from '../protocol/job-request.ts';

export interface Demand {
  /** Seconds. */
  readonly maxAge?: number;
  readonly minGeneration?: number;
}

/** Milliseconds since the epoch, and how long `shared` lasts. */
export interface Moments {
  readonly submitted: number;
  /** When the job first found the image too old. */
  readonly asked: number | undefined;
  readonly shared: number;
  readonly now: number;
}

/** Undefined when it does not care; an update never does. @param usual seconds, for jobs that do not say */
export function demandOf(request: JobRequest, usual: number | undefined): Demand | undefined {
  if (request.kind === 'update-golden') return undefined;
  const { maxAge = usual, minGeneration } = request;
  if (maxAge === undefined && minGeneration === undefined) return undefined;
  return {
    ...(maxAge === undefined ? {} : { maxAge }),
    ...(minGeneration === undefined ? {} : { minGeneration }),
  };
}

/**
 * Why the image does not do; undefined when it does. A look that came after the job had asked always does, so that no job
 * asks for ever; one that came after the job was handed in does for as long as `shared`, so that the jobs of one batch
 * share it however late each of them is claimed.
 * @throws {UsageError} no update can lead there
 */
export function unmetDemand({ maxAge, minGeneration }: Demand, image: Freshness, at: Moments): string | undefined {
  if (minGeneration !== undefined && image.generation < minGeneration) {
    const text = `generation ${minGeneration} was asked for`;
    if (minGeneration <= image.next) return text;
    throw new UsageError(
      'minGeneration',
      `${text}, but the current one is ${image.generation} and the next one will be ${image.next}`,
    );
  }
  if (maxAge === undefined) return undefined;
  const age = at.now - image.looked;
  if (age <= maxAge * 1000) return undefined;
  if (at.asked !== undefined && image.looked >= at.asked) return undefined;
  if (image.looked >= at.submitted && age <= at.shared) return undefined;
  return `${span(age / 1000)} old, ${span(maxAge)} allowed`;
}

function span(seconds: number): string {
  const [size, unit] = [[86_400, 'd'] as const, [3600, 'h'] as const, [60, 'min'] as const].find(
    ([least]) => seconds >= 2 * least,
  ) ?? [1, 's'];
  return `${Math.floor(seconds / size)} ${unit}`;
}
