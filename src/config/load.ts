/**
 * Settings: `/etc/goldbed/*.yaml`, then `$XDG_CONFIG_HOME/goldbed/*.yaml`, then `GOLDBED_*`, then flags; the later wins.
 * A wrong file names itself, the key and what was expected; nothing is guessed.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import path from 'node:path';
import { parse, YAMLParseError } from 'yaml';
import * as z from 'zod';
import { ConfigError } from './config-error.ts';
import { dockerSchema, dockerSettings, type DockerSettings } from './docker.ts';
import { flag, wholeNumber } from './environment.ts';
import { durationSchema, keepSchema, policySchema, type Policies } from './policy.ts';
import { capacitySchema, mergeSizes, sizesOf, sizesSchema, type Capacity, type SizesSettings } from './sizes.ts';
import { defaultStateRoot } from './state.ts';

/** More testbeds at a time than any host has room for. */
export const maxSlots = 999;

const hostName = /^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$/;
const imageName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9+._-]*$/, 'expected the name of an image');

const fileSchema = z.strictObject({
  /** The state folder, absolute. */
  state: z.string().startsWith('/', 'expected an absolute path').optional(),
  redis: z
    .strictObject({
      url: z.string().min(1).optional(),
      allowUnsafe: z.boolean().optional(),
      /** For rediss://: PEM files. */
      tls: z
        .strictObject({
          ca: z.string().startsWith('/', 'expected an absolute path').optional(),
          cert: z.string().startsWith('/', 'expected an absolute path').optional(),
          key: z.string().startsWith('/', 'expected an absolute path').optional(),
        })
        .optional(),
      /** First part of every key that goldbed writes. */
      prefix: z
        .string()
        .regex(/^[A-Za-z0-9_-]+$/, 'expected letters, digits, _ or -')
        .optional(),
    })
    .optional(),
  worker: z
    .strictObject({
      slots: z.number().int().min(1).max(maxSlots).optional(),
      /** Instead of slots. */
      capacity: capacitySchema.optional(),
      /** What this host is called; default: its host name. */
      name: z.string().regex(hostName, 'expected a host name').optional(),
      /** Megabytes that must be free in the state folder before a job is claimed. */
      minFreeDisk: z.number().int().nonnegative().optional(),
      /** Backends, and images by name, that jobs may use here; default: all. */
      backends: z.array(z.string()).min(1).optional(),
      images: z.array(imageName).min(1).optional(),
      /** Port on 127.0.0.1 for /metrics, /livez and /readyz; none by default. */
      metrics: z.number().int().min(1).max(65_535).optional(),
      /** How the worker tells what it does: for people, or as JSON by line. */
      log: z.enum(['text', 'json']).optional(),
    })
    .optional(),
  /** What is reserved for a job, by its size. */
  sizes: sizesSchema.optional(),
  fleet: z
    .strictObject({
      /** Seconds between heartbeats; the jobs of a worker that died run elsewhere after about five of them. */
      heartbeat: z.number().min(0.1, 'expected 0.1 or more seconds').max(60, 'expected 60 or fewer seconds').optional(),
    })
    .optional(),
  clients: z
    .strictObject({
      /** Programs that take the place of Debian's own, by absolute path. */
      sbuild: z.string().startsWith('/', 'expected an absolute path').optional(),
      autopkgtest: z.string().startsWith('/', 'expected an absolute path').optional(),
    })
    .optional(),
  images: z
    .strictObject({ keep: keepSchema.optional(), policy: z.record(imageName, policySchema).optional() })
    .optional(),
  jobs: z
    .strictObject({
      /** For how long a worker keeps the files of a job: its log, what it made. */
      keep: durationSchema.optional(),
    })
    .optional(),
  docker: dockerSchema.optional(),
  qemu: z
    .strictObject({
      /** Megabytes of each machine. */
      memory: z.number().int().min(256).optional(),
      /** Processors of each machine. */
      cpus: z.number().int().min(1).max(255).optional(),
    })
    .optional(),
  /** Images that an adt-virt server of somebody else's opens, by name. */
  external: z
    .record(
      imageName,
      z.strictObject({
        /** The program and its arguments: `[autopkgtest-virt-lxc, autopkgtest-sid]`. */
        server: z.array(z.string().min(1)).min(1),
        suite: z.string().min(1),
        /** Debian architecture; default: the host's. */
        arch: z.string().min(1).optional(),
      }),
    )
    .optional(),
});
type FileSettings = z.infer<typeof fileSchema>;

/** An image of an external server, as the host's administrator described it. */
export type ExternalImage = NonNullable<FileSettings['external']>[string];

export interface Settings {
  readonly state: string;
  readonly redis: {
    readonly url: string | undefined;
    readonly allowUnsafe: boolean;
    readonly prefix: string;
    /** Paths of PEM files. */
    readonly tls: { readonly ca?: string; readonly cert?: string; readonly key?: string };
  };
  readonly worker: {
    readonly name: string;
    readonly slots: number;
    /** Counts instead of slots, where it is there. */
    readonly capacity?: Capacity;
    readonly minFreeDisk: number;
    /** What jobs may use here; undefined: whatever there is. */
    readonly backends: readonly string[] | undefined;
    readonly images: readonly string[] | undefined;
    readonly metrics: number | undefined;
    readonly log: 'text' | 'json';
  };
  /** Megabytes, and processors. */
  readonly sizes: SizesSettings;
  /** Seconds. */
  readonly fleet: { readonly heartbeat: number };
  /** Absolute paths. */
  readonly clients: { readonly sbuild: string; readonly autopkgtest: string };
  /** Generations kept of each image, and what is wanted of single ones. */
  readonly images: { readonly keep: number; readonly policy: Policies };
  /** Seconds for which the files of a job are kept. */
  readonly jobs: { readonly keep: number };
  readonly external: Readonly<Record<string, ExternalImage>>;
  readonly docker: DockerSettings;
  readonly qemu: { readonly memory: number; readonly cpus: number };
}

/** @throws {ConfigError} */
export function loadSettings(env: NodeJS.ProcessEnv, uid: number): Settings {
  const merged = readSettingsFiles(env).reduce<FileSettings>((lower, { settings }) => merge(lower, settings), {});
  const fromEnv = {
    ...env,
    ...(env['GOLDBED_STATE'] || merged.state === undefined ? {} : { GOLDBED_STATE: merged.state }),
  };
  const envSlots = slotsOf(env);
  // the later wins: slots of the environment, over the capacity of a file
  const capacity = envSlots === undefined ? merged.worker?.capacity : undefined;
  return {
    state: defaultStateRoot(fromEnv, uid),
    redis: {
      url: env['GOLDBED_REDIS_URL'] || merged.redis?.url,
      allowUnsafe: flag(env, 'GOLDBED_ALLOW_UNSAFE_REDIS') ?? merged.redis?.allowUnsafe ?? false,
      prefix: merged.redis?.prefix ?? 'goldbed',
      tls: withoutUndefined(merged.redis?.tls ?? {}),
    },
    worker: {
      name: hostNameOf(env, merged.worker?.name),
      slots: envSlots ?? merged.worker?.slots ?? 1,
      ...(capacity === undefined ? {} : { capacity }),
      minFreeDisk: wholeNumber(env, 'GOLDBED_MIN_FREE_DISK') ?? merged.worker?.minFreeDisk ?? 1024,
      backends: merged.worker?.backends,
      images: merged.worker?.images,
      metrics: merged.worker?.metrics,
      log: merged.worker?.log ?? 'text',
    },
    sizes: sizesOf(merged.sizes),
    fleet: { heartbeat: merged.fleet?.heartbeat ?? 10 },
    clients: {
      sbuild: merged.clients?.sbuild ?? '/usr/bin/sbuild',
      autopkgtest: merged.clients?.autopkgtest ?? '/usr/bin/autopkgtest',
    },
    images: { keep: merged.images?.keep ?? 3, policy: merged.images?.policy ?? {} },
    jobs: { keep: merged.jobs?.keep ?? 30 * 86_400 },
    external: merged.external ?? {},
    docker: dockerSettings(env, merged.docker),
    qemu: { memory: merged.qemu?.memory ?? 2048, cpus: merged.qemu?.cpus ?? 1 },
  };
}

/** What the files say, the later one counting more. @throws {ConfigError} */
export function readSettingsFiles(
  env: NodeJS.ProcessEnv,
): { readonly file: string; readonly settings: FileSettings }[] {
  const files = configFolders(env).flatMap(yamlFiles);
  return files.map((file) => ({ file, settings: readSettings(file) }));
}

/** As exactOptionalPropertyTypes wants it. */
function withoutUndefined<T extends object>(values: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  const set = Object.entries(values).filter(([, value]) => value !== undefined);
  return Object.fromEntries(set) as { [K in keyof T]: Exclude<T[K], undefined> };
}

function hostNameOf(env: NodeJS.ProcessEnv, file: string | undefined): string {
  const name = env['GOLDBED_HOST'] || file || hostname();
  if (!hostName.test(name))
    throw new ConfigError('GOLDBED_HOST', `GOLDBED_HOST: expected a host name, found "${name}"`);
  return name;
}

function configFolders(env: NodeJS.ProcessEnv): string[] {
  const home = env['XDG_CONFIG_HOME'] || path.join(env['HOME'] ?? '/', '.config');
  return ['/etc/goldbed', path.join(home, 'goldbed')];
}

function yamlFiles(folder: string): string[] {
  try {
    const names = readdirSync(folder).filter((name) => name.endsWith('.yaml'));
    return names.toSorted().map((name) => path.join(folder, name));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return []; // nothing is configured there
    throw new ConfigError(folder, `${folder}: cannot be read: ${message}`);
  }
}

function readSettings(file: string): FileSettings {
  const parsed = fileSchema.safeParse(parseYaml(file) ?? {});
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const key = issue?.path.join('.');
  throw new ConfigError(file, `${file}: ${key ? `${key}: ` : ''}${issue?.message ?? 'invalid'}`);
}

function parseYaml(file: string): unknown {
  try {
    return parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if (!(error instanceof YAMLParseError)) throw new ConfigError(file, `${file}: ${String(error)}`);
    throw new ConfigError(file, `${file}: not valid YAML: ${error.message.split('\n')[0] ?? ''}`);
  }
}

function merge(lower: FileSettings, upper: FileSettings): FileSettings {
  return {
    ...lower,
    ...upper,
    redis: { ...lower.redis, ...upper.redis },
    worker: { ...lower.worker, ...upper.worker },
    sizes: mergeSizes(lower.sizes, upper.sizes),
    fleet: { ...lower.fleet, ...upper.fleet },
    clients: { ...lower.clients, ...upper.clients },
    images: { ...lower.images, ...upper.images, policy: { ...lower.images?.policy, ...upper.images?.policy } },
    jobs: { ...lower.jobs, ...upper.jobs },
    external: { ...lower.external, ...upper.external },
    docker: { ...lower.docker, ...upper.docker },
    qemu: { ...lower.qemu, ...upper.qemu },
  };
}

/** A worker without a slot would claim nothing, and look to all others as if somebody did. */
function slotsOf(env: NodeJS.ProcessEnv): number | undefined {
  const slots = wholeNumber(env, 'GOLDBED_SLOTS');
  if (slots === undefined || (slots >= 1 && slots <= maxSlots)) return slots;
  throw new ConfigError('GOLDBED_SLOTS', `GOLDBED_SLOTS: expected 1 to ${maxSlots}, found "${slots}"`);
}
