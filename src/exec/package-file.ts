/** What of this package is read or run, not imported: the helpers in libexec/, the programs in bin/, its version. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

/**
 * @param name relative to the package's root: `libexec/overlay-init`
 * @returns its absolute path; the same from `src/`, from `dist/` and from a bundled program, each at its own depth
 */
export function packageFile(name: string): string {
  return path.join((root ??= packageRoot(import.meta.dirname)), name);
}

/** Of goldbed. */
export function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(packageFile('package.json'), 'utf8')) as { version: string };
  return version;
}

let root: string | undefined;

function packageRoot(folder: string): string {
  const parent = path.dirname(folder);
  if (existsSync(path.join(folder, 'package.json')) || parent === folder) return folder;
  return packageRoot(parent);
}
