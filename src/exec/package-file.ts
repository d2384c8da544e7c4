/** Files of this package that are run, not imported: the helpers in libexec/, the programs in bin/. */
import { existsSync } from 'node:fs';
import path from 'node:path';

/**
 * @param name relative to the package's root: `libexec/overlay-init`
 * @returns its absolute path; the same from `src/`, from `dist/` and from a bundled program, each at its own depth
 */
export function packageFile(name: string): string {
  return path.join((root ??= packageRoot(import.meta.dirname)), name);
}

let root: string | undefined;

function packageRoot(folder: string): string {
  const parent = path.dirname(folder);
  if (existsSync(path.join(folder, 'package.json')) || parent === folder) return folder;
  return packageRoot(parent);
}
