/**
 * What an open testbed has on the host: one folder named after its session, with its owner written down first, so that
 * whoever comes later can tell a live session from the leftovers of a killed one.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { readdir, readFile, rename, stat } from 'node:fs/promises';
import path from 'node:path';
import { identityOf, isAlive, processIdentitySchema, type ProcessIdentity } from '../../exec/process-identity.ts';
import { discard } from '../../exec/trash.ts';

export interface SessionFolder {
  readonly path: string;
  /** Mount point of the root; a mount only inside the testbed's own namespace. */
  readonly root: string;
  readonly resolvConf: string;
  /** A fresh upper and work folder; the one before, if any, goes to the trash. */
  renewLayer(): Promise<{ readonly upper: string; readonly work: string }>;
  /** Everything to the trash. Idempotent. */
  remove(): Promise<void>;
}

/** Synchronous: opening a testbed waits for it, and a handful of tiny entries is no work for a thread pool. */
export function createSessionFolder(sessions: string, trash: string, sessionId: string): SessionFolder {
  const folder = path.join(sessions, sessionId);
  const root = path.join(folder, 'root');
  const layer = path.join(folder, 'layer');
  mkdirSync(folder, { mode: 0o755 });
  writeFileSync(path.join(folder, 'owner.json'), JSON.stringify(identityOf()));
  mkdirSync(root);
  const resolvConf = path.join(folder, 'resolv.conf');
  // a copy: the testbed's root may write to it, and must never reach the host's
  writeFileSync(resolvConf, existsSync('/etc/resolv.conf') ? readFileSync('/etc/resolv.conf') : '', { mode: 0o644 });
  return {
    path: folder,
    root,
    resolvConf,
    async renewLayer() {
      if (existsSync(layer)) await discard(layer, trash);
      const made = { upper: path.join(layer, 'upper'), work: path.join(layer, 'work') };
      mkdirSync(made.upper, { recursive: true, mode: 0o755 });
      mkdirSync(made.work);
      return made;
    },
    remove: () => discard(folder, trash),
  };
}

/** Folders whose owner is dead, renamed away by whoever comes first. @returns their session ids */
export async function reapSessionFolders(sessions: string, trash: string): Promise<string[]> {
  const names = await readdir(sessions).catch(() => []);
  const reaped: string[] = [];
  for (const name of names) {
    if (name.startsWith('.skeleton-')) continue;
    const folder = path.join(sessions, name);
    if (await ownerLives(folder)) continue;
    const claimed = path.join(sessions, `.reaped-${name.replace(/^\.reaped-/, '')}-${process.pid}`);
    const mine = await rename(folder, claimed).then(
      () => true,
      () => false,
    );
    if (!mine) continue; // another process reaps it
    await discard(claimed, trash);
    reaped.push(name);
  }
  return reaped;
}

/** A folder without an owner is being made, or its maker died before it could sign: after a minute it is the latter. */
async function ownerLives(folder: string): Promise<boolean> {
  const owner = await readOwner(path.join(folder, 'owner.json'));
  if (owner !== undefined) return isAlive(owner);
  const made = await stat(folder).catch(() => undefined);
  return made !== undefined && Date.now() - made.ctimeMs < 60_000;
}

async function readOwner(file: string): Promise<ProcessIdentity | undefined> {
  try {
    return processIdentitySchema.parse(JSON.parse(await readFile(file, 'utf8')));
  } catch {
    return undefined;
  }
}
