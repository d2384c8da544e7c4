/**
 * What an open testbed has on the host: one folder named after its session, with its owner written down first, so that
 * whoever comes later can tell a live session from the leftovers of a killed one.
 */
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { readdir, readFile, rename, stat } from 'node:fs/promises';
import path from 'node:path';
import type { State } from '../config/state.ts';
import { isAlive, ownIdentity, processIdentitySchema, type ProcessIdentity } from '../exec/process-identity.ts';
import { discard } from '../exec/trash.ts';
import { messageOf } from '../protocol/errors.ts';
import type { BackendName } from '../protocol/job-request.ts';

/** The parts of the state folder that testbeds need. */
export type SessionState = Pick<State, 'sessions' | 'trash' | 'backends'>;

export interface SessionFolder {
  readonly path: string;
  /** Everything to the trash. Idempotent. */
  remove(): Promise<void>;
}

/** Synchronous: opening a testbed waits for it, and a handful of tiny entries is no work for a thread pool. */
export function createSessionFolder(
  { sessions, trash }: SessionState,
  backend: BackendName,
  sessionId: string,
  mode = 0o755,
): SessionFolder {
  const folder = path.join(sessions, `${backend}-${sessionId}`);
  mkdirSync(sessions, { recursive: true, mode: 0o755 });
  // signed before it has its name: there is no moment in which a kill leaves one that nobody owns
  const making = path.join(sessions, `.making-${backend}-${sessionId}`);
  try {
    mkdirSync(making, { mode });
    writeFileSync(path.join(making, 'owner.json'), JSON.stringify(ownIdentity()));
    renameSync(making, folder);
  } catch (error) {
    rmSync(making, { recursive: true, force: true }); // a full disk: the session may try again, with the same id
    throw error;
  }
  return { path: folder, remove: () => discard(folder, trash) };
}

/**
 * A backend's folders whose owner is dead, renamed away by whoever comes first.
 * @param undo what else such a session may have left on the host, by its id; before its folder goes. Where it throws, the
 *   folder stays, for the next to try again, and the others are reaped all the same
 * @param tell gets one line for each that stays: one bad session must not keep a worker from starting
 * @returns the session ids of those that are gone
 */
export async function reapSessionFolders(
  { sessions, trash }: SessionState,
  backend: BackendName,
  undo: (sessionId: string) => Promise<void> = async () => {},
  tell: (line: string) => void = () => {},
): Promise<string[]> {
  const names = await readdir(sessions).catch(() => []);
  const reaped: string[] = [];
  for (const name of names) {
    const [, sessionId] = new RegExp(`^(?:\\.reaped-|\\.making-)?${backend}-([0-9A-Za-z]+)`).exec(name) ?? [];
    const folder = path.join(sessions, name);
    if (sessionId === undefined || (await ownerLives(folder))) continue;
    try {
      await undo(sessionId);
    } catch (error) {
      tell(`cannot remove what session ${sessionId} left: ${messageOf(error)}`);
      continue;
    }
    const claimed = path.join(sessions, `.reaped-${backend}-${sessionId}-${process.pid}`);
    const mine = await rename(folder, claimed).then(
      () => true,
      () => false,
    );
    if (!mine) continue; // another process reaps it
    await discard(claimed, trash);
    reaped.push(sessionId);
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
