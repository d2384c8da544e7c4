/** The Debian architecture of this host, e.g. `amd64`. */
import { check } from './run.ts';

let known: Promise<string> | undefined;

/** Asked once: it does not change while a process lives. */
export function debianArchitecture(): Promise<string> {
  return (known ??= ask().catch((error: unknown) => {
    known = undefined;
    throw error;
  }));
}

async function ask(): Promise<string> {
  const { stdout } = await check(['/usr/bin/dpkg', '--print-architecture']);
  return stdout.trim();
}
