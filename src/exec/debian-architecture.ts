/** The Debian architecture of this host, e.g. `amd64`. */
import { check } from './run.ts';

export async function debianArchitecture(): Promise<string> {
  const { stdout } = await check(['/usr/bin/dpkg', '--print-architecture']);
  return stdout.trim();
}
