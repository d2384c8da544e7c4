/** Whether a program is there and may be run by us. */
import { accessSync, constants } from 'node:fs';
import path from 'node:path';

/** The file that a shell would run. @param folders as in PATH; a name with a slash is taken as it is */
export function findExecutable(program: string, folders: string): string | undefined {
  if (program.includes('/')) return isExecutable(program) ? path.resolve(program) : undefined;
  return folders
    .split(':')
    .map((folder) => path.join(folder, program))
    .find(isExecutable);
}

export function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
