/** What a producer asks: versioned JSON, validated wherever it crosses a boundary, with an id made from its content. */
import { createHash } from 'node:crypto';
import * as z from 'zod';
import { imageNameSchema } from './image.ts';
import { sizeSchema } from './size.ts';

const sha256Schema = z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 lower-case hex digits');

/** A plain file name: no directory part, not hidden, nothing that an option parser would take for an option. */
const fileNameSchema = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9+._~:%@-]*$/, 'expected a plain file name')
  .max(255);

/** A file in the host's artifact store, by content. */
export const artifactSchema = z.strictObject({
  name: fileNameSchema,
  size: z.number().int().nonnegative(),
  sha256: sha256Schema,
});
export type Artifact = z.infer<typeof artifactSchema>;

const packageNameSchema = z.string().regex(/^[a-z0-9][a-z0-9+.-]+$/, 'expected a Debian source package name');
const versionSchema = z.string().regex(/^(\d+:)?[0-9][A-Za-z0-9.+~-]*$/, 'expected a Debian version');

/** A source package by its .dsc and the files that it names; `main` is the .dsc. */
const dscSchema = z.strictObject({
  type: z.literal('dsc'),
  package: packageNameSchema,
  version: versionSchema,
  main: fileNameSchema,
  files: z.array(artifactSchema).min(1).max(64),
});

/** A source package that the client fetches inside the testbed, from the image's own deb-src lines. */
const archiveSchema = z.strictObject({
  type: z.literal('archive'),
  package: packageNameSchema,
  version: versionSchema.optional(),
});

/** Built packages by their .changes; `main` is the .changes. */
const changesSchema = z.strictObject({
  type: z.literal('changes'),
  package: packageNameSchema,
  version: versionSchema,
  main: fileNameSchema,
  /** A .dsc among `files` that the .changes does not list itself: it was found beside it, and gives the tests. */
  source: fileNameSchema.optional(),
  files: z.array(artifactSchema).min(1).max(1024),
});

/** `NAME` or `NAME=VERSION`. @throws {z.ZodError} */
export function archiveSource(word: string): ArchiveSource {
  const [name, version] = word.split('=', 2);
  return archiveSchema.parse({ type: 'archive', package: name, ...(version === undefined ? {} : { version }) });
}
export type ArchiveSource = z.infer<typeof archiveSchema>;

export const sourceSchema = z.discriminatedUnion('type', [dscSchema, archiveSchema]);
export type Source = z.infer<typeof sourceSchema>;
export const subjectSchema = z.discriminatedUnion('type', [dscSchema, archiveSchema, changesSchema]);
export type Subject = z.infer<typeof subjectSchema>;

/** The native backends on which a job can run, in the order in which a host prefers them. */
export const backendNames = ['overlay', 'docker', 'schroot', 'qemu'] as const;
export type BackendName = (typeof backendNames)[number];

/** Which backend: a name, or `any` for whatever the host prefers. */
export const backendSchema = z.enum(['any', ...backendNames, 'external']);
export type BackendChoice = z.infer<typeof backendSchema>;

const common = { v: z.literal(1), image: imageNameSchema, backend: backendSchema.default('any') };

/** How fresh the image must be. Absent from the requests of those who do not care: their ids stay what they were. */
const freshness = {
  /** Seconds since the image was made, updated, or last found up to date. */
  maxAge: z.number().int().nonnegative().max(1e9).optional(),
  minGeneration: z.number().int().positive().max(1e9).optional(),
};

/** What a host sets aside for it. Absent from the requests of those who do not care: it is `m`, and their ids stay. */
const sized = { size: sizeSchema.optional() };

export const buildRequestSchema = z.strictObject({
  ...common,
  ...freshness,
  ...sized,
  kind: z.literal('build'),
  source: sourceSchema,
});
export const testRequestSchema = z.strictObject({
  ...common,
  ...freshness,
  ...sized,
  kind: z.literal('test'),
  subject: subjectSchema,
});

/** The letters of sbuild-update(1): update, dist-upgrade, clean, autoclean, autoremove, upgrade(g). */
export const updateStepsSchema = z
  .string()
  .regex(/^[udcarg]{1,6}$/, 'expected letters out of u d c a r g, as in sbuild-update -udcar')
  .refine((steps) => new Set(steps).size === steps.length, 'each letter once');

/** A package that is built and tested on what is to be published. */
const canary = { canary: archiveSchema.optional() };

export const updateRequestSchema = z.discriminatedUnion('strategy', [
  z.strictObject({
    ...common,
    ...sized,
    kind: z.literal('update-golden'),
    strategy: z.literal('upgrade'),
    ...canary,
    steps: updateStepsSchema.default('udcar'),
  }),
  /** Bootstraps it anew, by its own recipe. */
  z.strictObject({
    ...common,
    ...sized,
    ...canary,
    kind: z.literal('update-golden'),
    strategy: z.literal('replace'),
  }),
]);
export type UpdateStrategy = UpdateRequest['strategy'];

/** The one request by which everybody refreshes an image who has no wishes of his own: asked twice, it is one run. */
export function refreshRequest(image: string, strategy: UpdateStrategy): UpdateRequest {
  return updateRequestSchema.parse({ v: 1, image, kind: 'update-golden', strategy });
}

export const jobRequestSchema = z.discriminatedUnion('kind', [
  buildRequestSchema,
  testRequestSchema,
  updateRequestSchema,
]);
export type JobRequest = z.infer<typeof jobRequestSchema>;
export type BuildRequest = z.infer<typeof buildRequestSchema>;
export type TestRequest = z.infer<typeof testRequestSchema>;
export type UpdateRequest = z.infer<typeof updateRequestSchema>;
export type JobKind = JobRequest['kind'];

/**
 * The id of a request: the kind's first letter and 15 hex digits of the SHA-256 of its canonical JSON, so that the same
 * request has the same id wherever it is made. The letter keeps it from looking like an integer (BullMQ refuses those).
 */
export function requestId(request: JobRequest): string {
  const hash = createHash('sha256').update(canonicalJson(request)).digest('hex');
  return request.kind.charAt(0) + hash.slice(0, 15);
}

/** One line for people: `hello 2.10-3`, `bookworm-amd64`. */
export function describeRequest(request: JobRequest): string {
  if (request.kind === 'update-golden') return request.image;
  const what = request.kind === 'build' ? request.source : request.subject;
  return what.version === undefined ? what.package : `${what.package} ${what.version}`;
}

function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).filter(([, item]) => item !== undefined);
    entries.sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item)}`).join(',')}}`;
  }
  return JSON.stringify(value);
}
