/** How a job ended, as recorded once and shown to everybody. At most 2 KB as JSON: Redis copies it into its events. */
import * as z from 'zod';
import { imageNameSchema } from './image.ts';

/** How long each step took, in order: queued, opened, then the client's own stages (deps, build, ...), closed. */
export const stepsSchema = z.array(z.strictObject({ name: z.string(), seconds: z.number() }));
export type Steps = z.infer<typeof stepsSchema>;

const generationRefSchema = z.strictObject({
  image: imageNameSchema,
  generation: z.number().int().positive(),
  digest: z.string(),
});

/** The status of a build or test whose dependencies cannot be installed from its archive, which was asked. */
export const depWait = 'dep-wait';

/** The verdict on a package: the client's own exit code and what it means. */
const verdictSchema = z.strictObject({
  kind: z.enum(['build', 'test']),
  /** sbuild's 0-3 or autopkgtest's 0-20, unchanged. */
  exitCode: z.number().int(),
  /** sbuild's Status line (`successful`, `attempted`, ...), or `pass`, `fail`, `neutral` as debci maps them; or `dep-wait`. */
  status: z.string(),
});

const updateSchema = z.strictObject({
  kind: z.literal('update-golden'),
  exitCode: z.literal([0, 1]),
  /** `published`: a new generation; `unchanged`: looked, nothing to do; `failed`: the old generation stays current. */
  status: z.enum(['published', 'unchanged', 'failed']),
  /** Generation numbers before and after; equal unless published. */
  before: z.number().int(),
  after: z.number().int(),
  /** Of the generation that was published. */
  digest: z.string().optional(),
  packages: z.strictObject({ added: z.number(), removed: z.number(), changed: z.number() }),
  /** Why it failed, one line. */
  reason: z.string().optional(),
});

export const outcomeSchema = z.strictObject({
  v: z.literal(1),
  result: z.discriminatedUnion('kind', [verdictSchema, updateSchema]),
  /** The generation that the client ran on; absent where only an external server knows what it opened. */
  generation: generationRefSchema.optional(),
  backend: z.string(),
  host: z.string(),
  /** Counts from 1; its files are in `jobs/<id>/<attempt>/`. */
  attempt: z.number().int().positive(),
  steps: stepsSchema,
  /** Plain names in the attempt's `artifacts/`. At most 20 are listed; `more` counts the others. */
  artifacts: z.array(z.string()),
  more: z.number().int().nonnegative().default(0),
});
export type Outcome = z.infer<typeof outcomeSchema>;
export type OutcomeResult = Outcome['result'];

/** The exit code of a waiting CLI: the client's own, unchanged. */
export function outcomeExitCode({ result }: Outcome): number {
  return result.exitCode;
}
