/**
 * Getting rid of big trees without waiting: rename into the trash folder (same file system, one system call), then remove
 * in the background by a process that outlives us. What a crash or power cut leaves there goes at the next sweep.
 */
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rename } from 'node:fs/promises';
import path from 'node:path';
import { asRoot } from './as-root.ts';
import { check, cleanEnvironment, run } from './run.ts';

/** Returns as soon as the tree is out of its place; with `wait`, when its room is free. Silent when it is not there. */
export async function discard(tree: string, trash: string, { wait = false } = {}): Promise<void> {
  const grave = path.join(trash, randomUUID());
  await mkdir(trash, { recursive: true, mode: 0o700 });
  try {
    await rename(tree, grave);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  if (wait) await run([...asRoot(), '/bin/rm', '-rf', '--', grave]); // a sweep may be at it, too
  else removeInBackground([grave]);
}

/** Removes what earlier processes left. Waits for it only with `wait`. @returns the number of trees found */
export async function emptyTrash(trash: string, { wait = false } = {}): Promise<number> {
  const names = await readdir(trash).catch(() => []);
  const graves = names.map((name) => path.join(trash, name));
  if (graves.length === 0) return 0;
  if (wait) await check([...asRoot(), '/bin/rm', '-rf', '--', ...graves]);
  else removeInBackground(graves);
  return graves.length;
}

function removeInBackground(graves: readonly string[]): void {
  const [program, ...args] = [...asRoot(), '/usr/bin/nice', '/bin/rm', '-rf', '--', ...graves] as [string];
  const child = spawn(program, args, { cwd: '/', env: { ...cleanEnvironment }, stdio: 'ignore', detached: true });
  child.on('error', () => {}); // left for the next sweep
  child.unref();
}
