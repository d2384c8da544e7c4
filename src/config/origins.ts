/** Where each setting comes from, for a person who wonders why it is not as they wrote it. */
import { dockerHostSocket } from './docker.ts';
import { readSettingsFiles, type Settings } from './load.ts';

export interface OriginatedSetting {
  /** As in the files: `worker.slots`. */
  readonly key: string;
  readonly value: unknown;
  /** A file, a variable of the environment, or `default`. */
  readonly origin: string;
}

/** The variables that count more than the files, by key. */
const variables: Readonly<Record<string, string>> = {
  state: 'GOLDBED_STATE',
  'redis.url': 'GOLDBED_REDIS_URL',
  'redis.allowUnsafe': 'GOLDBED_ALLOW_UNSAFE_REDIS',
  'worker.name': 'GOLDBED_HOST',
  'worker.slots': 'GOLDBED_SLOTS',
  'worker.minFreeDisk': 'GOLDBED_MIN_FREE_DISK',
  'docker.socket': 'GOLDBED_DOCKER_SOCKET',
  'docker.network': 'GOLDBED_DOCKER_NETWORK',
  'docker.init': 'GOLDBED_DOCKER_INIT',
};

/** In the order of the settings; what is not set and has no default is left out. @throws {ConfigError} */
export function settingsWithOrigins(settings: Settings, env: NodeJS.ProcessEnv): OriginatedSetting[] {
  const files = readSettingsFiles(env).toReversed(); // the later wins
  return leaves(settings).map(([path, value]) => {
    const key = path.join('.');
    const variable = variables[key];
    if (variable !== undefined && env[variable]) return { key, value, origin: variable };
    const file = files.find(({ settings: own }) => has(own, path))?.file;
    if (file !== undefined) return { key, value, origin: file };
    const docker = key === 'docker.socket' && value === dockerHostSocket(env);
    return { key, value, origin: docker ? 'DOCKER_HOST' : 'default' };
  });
}

function leaves(value: unknown, path: readonly string[] = []): [readonly string[], unknown][] {
  if (value === undefined) return [];
  if (!isRecord(value)) return [[path, value]];
  return Object.entries(value).flatMap(([name, each]) => leaves(each, [...path, name]));
}

function has(value: unknown, [name, ...rest]: readonly string[]): boolean {
  if (name === undefined) return true;
  return isRecord(value) && value[name] !== undefined && has(value[name], rest);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
