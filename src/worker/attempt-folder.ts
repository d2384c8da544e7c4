/**
 * One attempt of one run on disk: `jobs/<run>/<attempt>/` with `log` (the client's own output, unchanged), `artifacts/`
 * (what it made), `input/` (what it was given, removed at the end), `generation.json` (what it ran on) and `result.json`.
 */
import { createWriteStream, type WriteStream } from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { once } from 'node:events';
import * as z from 'zod';
import { ArtifactUnusable, takeFile } from '../artifacts/store.ts';
import type { State } from '../config/state.ts';
import { readJson, writeWhole } from '../exec/durable.ts';
import { HostError, messageOf } from '../protocol/errors.ts';
import type { GenerationRef } from '../protocol/image.ts';
import type { Artifact } from '../protocol/job-request.ts';
import type { Outcome } from '../protocol/outcome.ts';

export interface AttemptFolder extends AsyncDisposable {
  readonly attempt: number;
  readonly path: string;
  readonly artifacts: string;
  readonly input: string;
  readonly log: WriteStream;
  /** Fires when the log, or that of a part, cannot be written: the reason is a HostError. The attempt is worth nothing then. */
  readonly broken: AbortSignal;
  /** Brings a request's files into `input/`, verified. @returns the path of `main` @throws {HostError} one is not here */
  takeInputs(files: readonly Artifact[], main: string, store: string): Promise<string>;
  /** Plain names in `artifacts/`, sorted. */
  listArtifacts(): Promise<string[]>;
  /** What it runs on: also for those who ask after it failed. */
  noteGeneration(generation: GenerationRef): void;
  /** In one step: whoever reads it finds all of it, or nothing. */
  writeResult(result: Outcome | { readonly error: string }): void;
}

/** Where the attempts of a run are. */
export function runFolder(state: Pick<State, 'jobs'>, runId: string): string {
  return path.join(state.jobs, runId);
}

/** A fresh folder, of the first number from `atLeast` that this host has not had: an earlier attempt may still run here. */
export async function openAttemptFolder(
  state: Pick<State, 'jobs'>,
  runId: string,
  atLeast: number,
): Promise<AttemptFolder> {
  const { folder, attempt } = await makeFolder(runFolder(state, runId), atLeast);
  return folderAt(folder, attempt);
}

/** For a part of an attempt that has its own log and artifacts. */
export async function openSubfolder(of: AttemptFolder, name: string): Promise<AttemptFolder> {
  const folder = path.join(of.path, name);
  await mkdir(folder, { mode: 0o755 });
  return folderAt(folder, of.attempt, breaks.get(of.broken));
}

/** How to break what a signal stands for: a part that cannot be written breaks the whole. */
const breaks = new WeakMap<AbortSignal, AbortController>();

async function folderAt(folder: string, attempt: number, broken = new AbortController()): Promise<AttemptFolder> {
  breaks.set(broken.signal, broken);
  const artifacts = path.join(folder, 'artifacts');
  const input = path.join(folder, 'input');
  for (const made of [artifacts, input]) await mkdir(made, { recursive: true, mode: 0o755 });
  const log = createWriteStream(path.join(folder, 'log'));
  await once(log, 'open');
  // from now on: a stream's error that nobody listens for is the end of the process
  log.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'ERR_STREAM_WRITE_AFTER_END') return; // a last word of ours came too late: no harm
    broken.abort(new HostError(`the log cannot be written: ${messageOf(error)}`));
  });
  return {
    attempt,
    path: folder,
    artifacts,
    input,
    log,
    broken: broken.signal,
    async takeInputs(files, main, store) {
      for (const file of files) await takeInput(store, file, path.join(input, file.name));
      return path.join(input, main);
    },
    listArtifacts: async () => (await readdir(artifacts)).toSorted(),
    noteGeneration: (ref) => writeWhole(path.join(folder, 'generation.json'), `${JSON.stringify(ref)}\n`),
    // whole, but not brought to disk: the record is Redis', and until it is told the journal's
    writeResult: (result) => writeWhole(path.join(folder, 'result.json'), `${JSON.stringify(result, null, 2)}\n`),
    async [Symbol.asyncDispose]() {
      await closeLog(log);
      await rm(input, { recursive: true, force: true }).catch(() => {}); // a broken disk: the job is settled all the same
    },
  };
}

/** Whether what was written is on the disk, `broken` tells. */
export async function closeLog(log: WriteStream): Promise<void> {
  if (log.closed) return;
  const closed = new Promise<void>((resolve) => void log.once('close', () => resolve()));
  log.end();
  await closed;
}

async function takeInput(store: string, { name, sha256 }: Artifact, target: string): Promise<void> {
  try {
    await takeFile(store, sha256, target);
  } catch (error) {
    if (!(error instanceof ArtifactUnusable)) throw error;
    const where = error.why === 'missing' ? 'is not on this host' : 'is damaged on this host';
    const common = `the hosts that run a job need the folder "artifacts" of its producer in common (${store})`;
    throw new HostError(`input ${name} ${where}: ${common}`, { cause: error });
  }
}

/** Digests of the generations on which attempts of a run began on this host. */
export async function attemptedOn(state: Pick<State, 'jobs'>, runId: string): Promise<string[]> {
  const folder = runFolder(state, runId);
  const attempts = await readdir(folder).catch(() => []);
  const noted = await Promise.all(
    attempts.map((attempt) => readJson(path.join(folder, attempt, 'generation.json'), notedSchema)),
  );
  return noted.flatMap((ref) => (ref === undefined ? [] : [ref.digest]));
}

const notedSchema = z.object({ digest: z.string() });

async function makeFolder(parent: string, atLeast: number): Promise<{ folder: string; attempt: number }> {
  await mkdir(parent, { recursive: true, mode: 0o755 });
  for (let attempt = atLeast; ; attempt += 1) {
    const folder = path.join(parent, String(attempt));
    try {
      await mkdir(folder, { mode: 0o755 });
      return { folder, attempt };
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    }
  }
}
