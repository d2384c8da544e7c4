/** What the administrator of a host wants for an image: `images.policy.NAME` in the configuration. */
import * as z from 'zod';
import { cronProblem, hostTimeZone, timeZoneProblem, type Schedule } from './cron.ts';
import { durationExpected, parseDuration } from './duration.ts';

const checkedBy = (problem: (text: string) => string | undefined) =>
  z.string().superRefine((text, context) => {
    const message = problem(text);
    if (message !== undefined) context.addIssue({ code: 'custom', message });
  });

const canaryPattern = /^[a-z0-9][a-z0-9+.-]+(=(\d+:)?[0-9][A-Za-z0-9.+~-]*)?$/;

/** In seconds when it is read. */
export const durationSchema = checkedBy((text) =>
  parseDuration(text) === undefined ? durationExpected : undefined,
).transform((text) => parseDuration(text) ?? 0);

/** How many generations of an image stay. */
export const keepSchema = z.number().int().min(1).max(1000);

export const policySchema = z.strictObject({
  /** What a refresh does unless it is told: upgrade what is there, or bootstrap anew. */
  strategy: z.enum(['upgrade', 'replace']).optional(),
  /** When it is refreshed, whether or not a job asks. */
  schedule: checkedBy(cronProblem).optional(),
  /** Of the schedule; default: that of the host. */
  timeZone: checkedBy(timeZoneProblem).optional(),
  /** Commands, each with its arguments, that must end with 0 in a session on what is to be published. */
  verify: z
    .array(z.tuple([z.string().min(1)], z.string()))
    .max(50)
    .optional(),
  /** A source package, `NAME` or `NAME=VERSION`: built and tested on what is to be published. */
  canary: z.string().regex(canaryPattern, 'expected the name of a source package, or NAME=VERSION').optional(),
  /** Instead of `images.keep`. */
  keep: keepSchema.optional(),
  /** Jobs that do not say how old their image may be; in seconds when it is read. */
  maxAge: durationSchema.optional(),
});
export type Policy = z.output<typeof policySchema>;
export type Policies = Readonly<Record<string, Policy>>;

/** What an update of the image does unless it is told. */
export function strategyFor(policies: Policies, image: string): 'upgrade' | 'replace' {
  return policies[image]?.strategy ?? 'upgrade';
}

export function scheduleFor(policies: Policies, image: string): Schedule | undefined {
  const { schedule, timeZone } = policies[image] ?? {};
  return schedule === undefined ? undefined : { cron: schedule, timeZone: timeZone ?? hostTimeZone() };
}

/** What must work on a new generation of the image, beyond what is always checked. */
export function verifyFor(policies: Policies, image: string): { readonly verify: NonNullable<Policy['verify']> } {
  return { verify: policies[image]?.verify ?? [] };
}

export function keepFor({ keep, policy }: { readonly keep: number; readonly policy: Policies }, image: string): number {
  return policy[image]?.keep ?? keep;
}
