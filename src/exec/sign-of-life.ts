/**
 * Signs of life, for those who cannot see a process. /proc shows one PID namespace only: containers that share a state folder
 * have one each, and so have one that was killed and the one that took its place. There, a process holds a file locked:
 * flock(2) knows no namespaces, and the kernel frees the lock whatever ends the process.
 *
 * A sign names the folder that its file is in, by device and inode, which all mounts of it have in common. In that folder a
 * file that is missing is a dead process's; of one in any other folder nothing is known.
 */
import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { closeSync, mkdirSync, openSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { cleanEnvironment } from './run.ts';

let place: string | undefined;
let own: string | undefined;

/** Of this process, and of all that have this state folder in common. */
export function keepSignsIn(folder: string): void {
  if (place !== folder) own = undefined;
  place = folder;
}

/** Made when it is first asked for. Undefined where that cannot be: those who cannot see us will take us for living. */
export function ownSign(): string | undefined {
  return (own ??= place === undefined ? undefined : madeIn(place));
}

/** False when the process that has the sign is dead, for certain. */
export function mayLive(sign: string): boolean {
  const [, folder, name] = /^(\d+\.\d+)\.([0-9a-f-]+)$/.exec(sign) ?? [];
  return place === undefined || name === undefined || folder !== numberOf(place) || isHeld(path.join(place, name));
}

/** The files of those that were killed. */
export function removeDeadSigns(): void {
  if (place === undefined || numberOf(place) === undefined) return;
  for (const name of readdirSync(place)) isHeld(path.join(place, name));
}

/** It has its name when it is locked: nobody finds it free before. */
function madeIn(folder: string): string | undefined {
  const name = randomUUID();
  const file = path.join(folder, name);
  const draft = path.join(folder, `.${name}`);
  try {
    mkdirSync(folder, { recursive: true, mode: 0o755 });
    if (!lock(openSync(draft, 'wx', 0o644))) throw new Error(`cannot lock ${draft}`); // open until we end
    renameSync(draft, file);
  } catch {
    remove(draft);
    return undefined;
  }
  process.once('exit', () => remove(file));
  const number = numberOf(folder);
  return number === undefined ? undefined : `${number}.${name}`;
}

/** Whether somebody has it locked. Removes it if nobody has. */
function isHeld(file: string): boolean {
  let descriptor: number;
  try {
    descriptor = openSync(file, 'r');
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ENOENT';
  }
  try {
    const free = lock(descriptor);
    if (free) remove(file);
    return !free;
  } finally {
    closeSync(descriptor);
  }
}

/** The lock belongs to the open file, not to the process that asks for it. */
function lock(descriptor: number): boolean {
  const stdio = ['ignore', 'ignore', 'ignore', descriptor] as const;
  return (
    spawnSync('/usr/bin/flock', ['--nonblock', '3'], { stdio: [...stdio], env: { ...cleanEnvironment } }).status === 0
  );
}

function remove(file: string): void {
  try {
    rmSync(file, { force: true });
  } catch {
    // not ours to remove: it says what it says
  }
}

function numberOf(folder: string): string | undefined {
  const found = statSync(folder, { throwIfNoEntry: false, bigint: true });
  return found === undefined ? undefined : `${found.dev}.${found.ino}`;
}
