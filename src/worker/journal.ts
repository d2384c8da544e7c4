/**
 * What a worker has claimed, on its host's disk: a token is written down before it is used for a claim, so that whatever
 * kills the worker, the next one on this host finds the jobs that the token holds and gives them back at once. The outcome
 * of a job is written down before it is told to Redis: it is not lost, and the job not run again, if the telling failed.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import * as z from 'zod';
import type { State } from '../config/state.ts';
import { flock, type FileLock } from '../exec/flock.ts';
import { canSee, isAlive, ownIdentity, processIdentitySchema, type ProcessIdentity } from '../exec/process-identity.ts';
import { outcomeSchema } from '../protocol/outcome.ts';

const entrySchema = z.strictObject({
  key: z.string(),
  token: z.string(),
  /** How the job that the token holds has ended: still to be told to Redis. */
  ended: z.strictObject({ runId: z.string(), attempt: z.number().int(), outcome: outcomeSchema }).optional(),
});
export type JournalEntry = z.infer<typeof entrySchema>;
export type Ended = NonNullable<JournalEntry['ended']>;

/** One entry of a running worker's journal. */
export interface WrittenEntry {
  /** Its file. */
  readonly name: string;
  /** On disk when it returns. */
  end(ended: Ended): Promise<void>;
  strike(): Promise<void>;
}

export interface Journal extends AsyncDisposable {
  /** Names this run of the worker; part of its tokens. */
  readonly incarnation: string;
  /** Private (0700), and gone with the journal: for the sockets of sessions, too. */
  readonly folder: string;
  /** On disk when it returns. */
  write(entry: JournalEntry): Promise<WrittenEntry>;
  /** An entry that another process of this worker has written, and ends. */
  adopt(name: string): WrittenEntry;
  /** All entries, as they are on disk now. */
  read(): Promise<(JournalEntry & { readonly name: string })[]>;
  /** From now on it is another process's: disposing leaves it alone. */
  passOn(): void;
}

/** Says which process is in charge of the worker. */
const ownerFile = 'owner.json';

export interface JournalOptions {
  readonly incarnation?: string;
  /** The process that an operator knows, and that obeys SIGHUP: for `goldbed worker restart`. */
  readonly main?: ProcessIdentity | undefined;
}

/** Short: sockets lie below it. */
export function newIncarnation(): string {
  return randomBytes(6).toString('hex');
}

export function journalFolder(state: Pick<State, 'workers'>, incarnation: string): string {
  return path.join(state.workers, incarnation);
}

/** Disposing leaves a journal with claims that were not settled to the next worker. */
export async function openJournal(
  state: Pick<State, 'workers'>,
  { incarnation = newIncarnation(), main }: JournalOptions = {},
): Promise<Journal> {
  const folder = journalFolder(state, incarnation);
  await using _ = await lockAll(state);
  await mkdir(folder, { mode: 0o700 });
  await writeOwner(folder);
  if (main !== undefined) await writeFile(path.join(folder, 'main.json'), JSON.stringify(main), { mode: 0o600 });
  return journalIn(folder, incarnation);
}

/** Dispose forgets it; the journal that was continued stays. */
export interface NextOwner extends AsyncDisposable {
  /** The journal of the process that has passed its jobs on to this one. */
  continueJournal(): Promise<Journal>;
}

/**
 * Writes beside a running worker's journal what is to be written there when its jobs have passed to this process: whatever
 * the disk has no room for shows now, while the other one has them still. @throws also when the journal is gone
 */
export async function nextOwner(state: Pick<State, 'workers'>, incarnation: string): Promise<NextOwner> {
  const folder = journalFolder(state, incarnation);
  const beside = path.join(folder, `next-owner-${process.pid}.json`);
  const forget = (): Promise<void> => rm(beside, { force: true });
  try {
    await writeSynced(beside, JSON.stringify(ownIdentity()));
  } catch (error) {
    await forget();
    throw error;
  }
  return {
    async continueJournal() {
      await using _ = await lockAll(state);
      await rename(beside, path.join(folder, ownerFile));
      return journalIn(folder, incarnation);
    },
    [Symbol.asyncDispose]: forget,
  };
}

function journalIn(folder: string, incarnation: string): Journal {
  let unsettled = 0;
  let ours = true;
  const written = (name: string, end: WrittenEntry['end']): WrittenEntry => {
    let struck: Promise<void> | undefined;
    unsettled += 1;
    return {
      name,
      end,
      strike() {
        if (struck === undefined) unsettled -= 1;
        return (struck ??= rm(path.join(folder, name), { force: true }));
      },
    };
  };
  return {
    incarnation,
    folder,
    async write(entry) {
      const name = `claim-${randomUUID()}.json`;
      const file = path.join(folder, name);
      await writeSynced(file, JSON.stringify(entry));
      return written(name, async (ended) => {
        const beside = path.join(folder, `ending-${randomUUID()}.json`);
        await writeSynced(beside, JSON.stringify({ ...entry, ended }));
        await rename(beside, file);
      });
    },
    adopt: (name) => written(name, async () => {}), // the process that has the session has written it down
    read: () => readClaims(folder),
    passOn: () => void (ours = false),
    async [Symbol.asyncDispose]() {
      if (ours && unsettled === 0) await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Who is in charge of a worker. Undefined when its journal is gone. */
export async function ownerOf(folder: string): Promise<ProcessIdentity | undefined> {
  return readIdentity(folder, ownerFile);
}

export interface RestartableWorker {
  readonly folder: string;
  readonly main: ProcessIdentity;
}

/** The workers that an operator started, and can restart from here: a signal takes a process of our own PID namespace. */
export async function restartableWorkers(state: Pick<State, 'workers'>): Promise<RestartableWorker[]> {
  await using _ = await lockAll(state);
  const found: RestartableWorker[] = [];
  for (const entry of await readdir(state.workers, { withFileTypes: true })) {
    const folder = path.join(state.workers, entry.name);
    if (!entry.isDirectory() || !(await ownerLives(folder))) continue;
    const main = await readIdentity(folder, 'main.json');
    if (main !== undefined && canSee(main) && isAlive(main)) found.push({ folder, main });
  }
  return found;
}

export interface DeadIncarnation {
  readonly incarnation: string;
  readonly claims: readonly JournalEntry[];
  /** To be called when its claims are dealt with. */
  forget(): Promise<void>;
}

/** Takes over the journals of dead workers: each is found by one process only. */
export async function takeDeadIncarnations(state: Pick<State, 'workers'>): Promise<DeadIncarnation[]> {
  await using _ = await lockAll(state);
  const entries = await readdir(state.workers, { withFileTypes: true });
  const dead: DeadIncarnation[] = [];
  for (const entry of entries) {
    const folder = path.join(state.workers, entry.name);
    if (!entry.isDirectory() || (await ownerLives(folder))) continue;
    const [incarnation = entry.name] = entry.name.split('.');
    const taken = path.join(state.workers, `${incarnation}.taken-${randomUUID()}`);
    await rename(folder, taken);
    await writeOwner(taken);
    dead.push({
      incarnation,
      claims: await readClaims(taken),
      forget: () => rm(taken, { recursive: true, force: true }),
    });
  }
  return dead;
}

/** Makes and takes journals one at a time: a folder whose owner is not to be read is then never one that is being made. */
async function lockAll(state: Pick<State, 'workers'>): Promise<FileLock> {
  await mkdir(state.workers, { recursive: true, mode: 0o700 });
  return flock(path.join(state.workers, 'lock'));
}

async function readClaims(folder: string): Promise<(JournalEntry & { readonly name: string })[]> {
  const claims: (JournalEntry & { readonly name: string })[] = [];
  for (const name of await readdir(folder)) {
    if (!name.startsWith('claim-')) continue;
    const parsed = entrySchema.safeParse(await readJson(path.join(folder, name)));
    if (parsed.success) claims.push({ ...parsed.data, name }); // else: killed while writing it, so never used
  }
  return claims;
}

async function ownerLives(folder: string): Promise<boolean> {
  const owner = await readIdentity(folder, ownerFile);
  return owner !== undefined && isAlive(owner);
}

async function readIdentity(folder: string, name: string): Promise<ProcessIdentity | undefined> {
  const parsed = processIdentitySchema.safeParse(await readJson(path.join(folder, name)));
  return parsed.success ? parsed.data : undefined;
}

function writeOwner(folder: string): Promise<void> {
  return writeSynced(path.join(folder, ownerFile), JSON.stringify(ownIdentity()));
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
