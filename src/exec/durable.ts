/**
 * Small files that are either the old or the new ones, whatever is killed or unplugged in between; reading them; and removing
 * what killed writers of them left.
 */
import { randomUUID } from 'node:crypto';
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { lstat, open, readdir, rename, rm, symlink } from 'node:fs/promises';
import path from 'node:path';
import type { z } from 'zod';
import { identityOf, ownIdentity } from './process-identity.ts';

/** Replaces the file in one step and brings it to disk. */
export async function writeDurably(file: string, text: string): Promise<void> {
  await replace(file, async (draft) => {
    await using handle = await opened(draft, 'wx');
    await handle.file.writeFile(text);
    await handle.file.sync();
  });
  await syncFolder(path.dirname(file));
}

/**
 * As {@link writeDurably}, but not brought to disk: for what means nothing after a reboot. Synchronous, as reading is: a
 * few hundred bytes that never wait for a disk take a tenth of the time that the way through the thread pool does.
 */
export function writeWhole(file: string, text: string): void {
  const draft = draftIn(path.dirname(file));
  try {
    writeFileSync(draft, text, { flag: 'wx' });
    renameSync(draft, file);
  } catch (error) {
    rmSync(draft, { force: true });
    throw error;
  }
}

/** Points a symbolic link somewhere else, in one step, and brings that to disk. */
export async function pointDurably(link: string, target: string): Promise<void> {
  await replace(link, (draft) => symlink(target, draft));
  await syncFolder(path.dirname(link));
}

/** Brings a folder's entries to disk: without it, a rename in it may be undone by a power cut (fsync(2)). */
export async function syncFolder(folder: string): Promise<void> {
  await using handle = await opened(folder, 'r');
  await handle.file.sync();
}

/** What a file says, or undefined when there is none. @throws an error that names the file when it makes no sense */
export async function readJson<T>(file: string, schema: z.ZodType<T>): Promise<T | undefined> {
  const text = await readText(file);
  if (text === undefined) return undefined;
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    throw new Error(`${file} is damaged, or was written by another version of goldbed`, { cause: error });
  }
}

/**
 * What {@link writeWhole} had written is gone with the power: file systems leave such a file empty, or with NUL bytes in it.
 * Whoever wrote it is dead, then.
 */
export async function isLost(file: string): Promise<boolean> {
  const text = await readText(file);
  return text !== undefined && /^\0*$/.test(text);
}

/** A file's text, or undefined when there is none. */
export async function readText(file: string): Promise<string | undefined> {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

export function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT';
}

/** It is on a file system that nobody can write through this mount. */
export function isReadOnly(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'EROFS';
}

export function isFullDisk(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT'].includes((error as NodeJS.ErrnoException).code ?? '');
}

/**
 * A name for what is being made in a folder and will be renamed. It starts with a dot, which no reader of these folders
 * looks at, and says whose it is: of a killed process it stays, until somebody {@link removeDeadDrafts removes} it.
 */
export function draftIn(folder: string): string {
  const { pid, started, pidNamespace } = ownIdentity();
  const process = [pid, started, pidNamespace].filter((part) => part !== undefined).join('.');
  return path.join(folder, `.draft-${process}-${randomUUID()}`);
}

/** Silent about a folder that is not there, and one that nobody can write: a look at it shows what is there. */
export async function removeDeadDrafts(folder: string): Promise<void> {
  try {
    for (const name of await readdir(folder)) {
      const draft = path.join(folder, name);
      if (await isDeadDraft(draft)) await rm(draft, { recursive: true, force: true });
    }
  } catch (error) {
    if (!isMissing(error) && !isReadOnly(error)) throw error;
  }
}

/** Milliseconds after which a draft is dead whose process cannot be seen: writing one takes a few. */
const unseenFor = 60_000;

async function isDeadDraft(draft: string): Promise<boolean> {
  // an earlier version says the process id only
  const [, pid, started, pidNamespace] = /^\.draft-(\d+)(?:\.(\d+))?(?:\.(\d+))?-/.exec(path.basename(draft)) ?? [];
  if (pid === undefined) return false;
  if (pidNamespace !== identityOf()?.pidNamespace) {
    const found = await lstat(draft).catch(() => undefined); // it may have got its name meanwhile
    return found !== undefined && Date.now() - found.mtimeMs > unseenFor;
  }
  const now = identityOf(Number(pid));
  return now === undefined || (started !== undefined && now.started !== started);
}

async function replace(file: string, make: (draft: string) => Promise<void>): Promise<void> {
  const draft = draftIn(path.dirname(file));
  try {
    await make(draft);
    await rename(draft, file);
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  }
}

/** Node 20's FileHandle has no asyncDispose of its own. */
async function opened(file: string, flags: string) {
  const handle = await open(file, flags);
  return { file: handle, [Symbol.asyncDispose]: () => handle.close() };
}
