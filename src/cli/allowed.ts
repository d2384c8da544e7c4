/** What this host's configuration lets jobs use. A job asks; it never decides. */
import type { Backend } from '../backends/backend.ts';
import { ConfigError } from '../config/config-error.ts';
import type { Settings } from '../config/load.ts';
import { HostError } from '../protocol/errors.ts';
import { backendNames } from '../protocol/job-request.ts';

/** @throws {ConfigError} it names a backend that there is not */
export function requireKnownBackends({ worker }: Settings): void {
  const known: readonly string[] = [...backendNames, 'external'];
  const unknown = worker.backends?.find((name) => !known.includes(name));
  if (unknown === undefined) return;
  throw new ConfigError('worker.backends', `worker.backends: expected ${known.join(', ')}; found "${unknown}"`);
}

export function allowsImage({ worker }: Settings, image: string): boolean {
  return worker.images === undefined || worker.images.includes(image);
}

export function allowsBackend({ worker }: Settings, backend: string): boolean {
  return worker.backends === undefined || worker.backends.includes(backend);
}

/** One that is not allowed does not work here. What it left on this host is removed all the same. */
export function ifAllowed(settings: Settings, backend: Backend): Backend {
  if (allowsBackend(settings, backend.name)) return backend;
  return { ...backend, unavailable: async () => 'not among worker.backends of this host’s configuration' };
}

/** At the claim, whatever was offered. @throws {HostError} */
export function requireAllowedImage(settings: Settings, image: string): void {
  if (allowsImage(settings, image)) return;
  throw new HostError(`${image} is not among worker.images of ${settings.worker.name}’s configuration`);
}
