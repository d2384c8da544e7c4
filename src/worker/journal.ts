/**
 * What a worker has claimed, on its host's disk: a token is written down before it is used for a claim, so that whatever
 * kills the worker, the next one on this host finds the jobs that the token holds and gives them back at once.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import type { State } from '../config/state.ts';
import { identityOf, isAlive, processIdentitySchema } from '../exec/process-identity.ts';

const entrySchema = z.strictObject({ key: z.string(), token: z.string() });
export type JournalEntry = z.infer<typeof entrySchema>;

export interface Journal extends AsyncDisposable {
  /** Names this run of the worker; part of its tokens. */
  readonly incarnation: string;
  /** Private (0700), and gone with the journal: for the sockets of sessions, too. */
  readonly folder: string;
  /** On disk when it returns. @returns how to strike it out */
  write(entry: JournalEntry): Promise<() => Promise<void>>;
}

export async function openJournal(state: Pick<State, 'workers'>): Promise<Journal> {
  const incarnation = randomBytes(6).toString('hex'); // short: sockets lie below it
  const folder = path.join(state.workers, incarnation);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await writeSynced(path.join(folder, 'owner.json'), JSON.stringify(identityOf()));
  return {
    incarnation,
    folder,
    async write(entry) {
      const file = path.join(folder, `claim-${randomUUID()}.json`);
      await writeSynced(file, JSON.stringify(entry));
      return () => rm(file, { force: true });
    },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

export interface DeadIncarnation {
  readonly incarnation: string;
  readonly claims: readonly JournalEntry[];
  /** To be called when its claims are dealt with. */
  forget(): Promise<void>;
}

/** Takes over the journals of dead workers: each is renamed, and so found by one process only. */
export async function takeDeadIncarnations(state: Pick<State, 'workers'>): Promise<DeadIncarnation[]> {
  const names = await readdir(state.workers).catch(() => []);
  const dead: DeadIncarnation[] = [];
  for (const name of names) {
    const folder = path.join(state.workers, name);
    if (await ownerLives(folder)) continue;
    const [incarnation = name] = name.split('.');
    const taken = path.join(state.workers, `${incarnation}.taken-${randomUUID()}`);
    const mine = await rename(folder, taken).then(
      () => true,
      () => false,
    );
    if (!mine) continue;
    await writeSynced(path.join(taken, 'owner.json'), JSON.stringify(identityOf()));
    dead.push({
      incarnation,
      claims: await readClaims(taken),
      forget: () => rm(taken, { recursive: true, force: true }),
    });
  }
  return dead;
}

async function readClaims(folder: string): Promise<JournalEntry[]> {
  const claims: JournalEntry[] = [];
  for (const name of await readdir(folder)) {
    if (!name.startsWith('claim-')) continue;
    const parsed = entrySchema.safeParse(await readJson(path.join(folder, name)));
    if (parsed.success) claims.push(parsed.data); // else: killed while writing it, so never used
  }
  return claims;
}

async function ownerLives(folder: string): Promise<boolean> {
  const parsed = processIdentitySchema.safeParse(await readJson(path.join(folder, 'owner.json')));
  if (parsed.success) return isAlive(parsed.data);
  return (await readdir(folder).catch(() => [])).length === 0; // just being made
}

async function readJson(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, 'utf8'));
  } catch {
    return undefined;
  }
}

async function writeSynced(file: string, text: string): Promise<void> {
  const handle = await open(file, 'w', 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
}
