/**
 * Image trees hold files of many owners. Root handles them as they are; anybody else inside a user namespace in which
 * they are root (uid 0 = the caller, 1.. = the caller's range in /etc/subuid). These are the two ways, as an argv prefix.
 */
import { readFileSync } from 'node:fs';
import { userName } from './user-name.ts';

/** Prefix that runs a command as (possibly namespaced) root; empty when we are root already. */
export function asRoot(): readonly string[] {
  return isRoot() ? [] : [...userNamespace, '--'];
}

/** `unshare` with the mapping that all of goldbed uses when it is not root; further namespaces may be appended. */
export const userNamespace = ['/usr/bin/unshare', '--user', '--map-root-user', '--map-auto'] as const;

export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/** Why a user who is not root has no subordinate ids, or undefined when all is well. */
export function subordinateIdsMissing(): string | undefined {
  if (isRoot()) return undefined;
  const [username, uid] = [userName(), process.getuid?.()];
  for (const file of ['/etc/subuid', '/etc/subgid']) {
    const lines = readText(file).split('\n');
    const owned = lines.some((line) => [username, String(uid)].includes(line.split(':')[0] ?? ''));
    if (!owned) {
      return `not root, and ${file} has no range for ${username}: run goldbed as root, or as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ${username}`;
    }
  }
  return undefined;
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
