/**
 * Inputs of jobs, by content: a file is kept under its SHA-256, so that a producer may delete or change its own copy, and
 * a worker knows that it works on what was asked.
 */
import { createHash, randomUUID } from 'node:crypto';
import { constants, createReadStream, existsSync } from 'node:fs';
import { copyFile, mkdir, open, rename, rm, stat, utimes } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';

export interface StoredFile {
  readonly size: number;
  /** 64 hex digits. */
  readonly sha256: string;
}

/** Copies a file in (a reflink where the file system can). What is stored is what was hashed, whoever writes meanwhile. */
export async function putFile(store: string, file: string): Promise<StoredFile> {
  await mkdir(store, { recursive: true, mode: 0o755 });
  const draft = path.join(store, `.draft-${randomUUID()}`);
  try {
    await copyFile(file, draft, constants.COPYFILE_FICLONE);
    const sha256 = await sha256Of(draft);
    const { size } = await stat(draft);
    await syncToDisk(draft);
    await rename(draft, path.join(store, sha256));
    return { size, sha256 };
  } finally {
    await rm(draft, { force: true });
  }
}

/** It is not here, or not what it was: another store may have it. */
export class ArtifactUnusable extends Error {
  override readonly name = 'ArtifactUnusable';
  readonly why: 'missing' | 'damaged';
  constructor(why: 'missing' | 'damaged', sha256: string) {
    super(`artifact ${sha256} is ${why}`);
    this.why = why;
  }
}

/** Puts a stored file at `target`, verified. @throws {ArtifactUnusable} */
export async function takeFile(store: string, sha256: string, target: string): Promise<void> {
  const stored = path.join(store, sha256);
  try {
    await copyFile(stored, target, constants.COPYFILE_FICLONE);
  } catch (error) {
    if (!existsSync(stored)) throw new ArtifactUnusable('missing', sha256);
    throw error;
  }
  if ((await sha256Of(target)) !== sha256) throw new ArtifactUnusable('damaged', sha256);
  await markUsed(stored).catch(() => {}); // another user's store may forbid it
}

/** For worker/tidy.ts. Never back: a host whose clock is behind would make it look old to all others. */
async function markUsed(stored: string): Promise<void> {
  const now = new Date();
  if ((await stat(stored)).mtimeMs < now.getTime()) await utimes(stored, now, now);
}

export async function sha256Of(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  return hash.digest('hex');
}

async function syncToDisk(file: string): Promise<void> {
  const handle = await open(file, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
