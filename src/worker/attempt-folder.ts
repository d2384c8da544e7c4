/**
 * One attempt of one run on disk: `jobs/<run>/<attempt>/` with `log` (the client's own output, unchanged), `artifacts/`
 * (what it made), `input/` (what it was given, removed at the end), `generation.json` (what it ran on) and `result.json`.
 */
import { createWriteStream, type WriteStream } from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { once } from 'node:events';
import * as z from 'zod';
import { takeFile } from '../artifacts/store.ts';
import type { State } from '../config/state.ts';
import { readJson, writeWhole } from '../exec/durable.ts';
import type { GenerationRef } from '../protocol/image.ts';
import type { Artifact } from '../protocol/job-request.ts';
import type { Outcome } from '../protocol/outcome.ts';

export interface AttemptFolder extends AsyncDisposable {
  readonly attempt: number;
  readonly path: string;
  readonly artifacts: string;
  readonly input: string;
  readonly log: WriteStream;
  /** Brings a request's files into `input/`, verified. @returns the path of `main` */
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
  return folderAt(folder, of.attempt);
}

async function folderAt(folder: string, attempt: number): Promise<AttemptFolder> {
  const artifacts = path.join(folder, 'artifacts');
  const input = path.join(folder, 'input');
  for (const made of [artifacts, input]) await mkdir(made, { recursive: true, mode: 0o755 });
  const log = createWriteStream(path.join(folder, 'log'));
  await once(log, 'open');
  return {
    attempt,
    path: folder,
    artifacts,
    input,
    log,
    async takeInputs(files, main, store) {
      for (const file of files) await takeFile(store, file.sha256, path.join(input, file.name));
      return path.join(input, main);
    },
    listArtifacts: async () => (await readdir(artifacts)).toSorted(),
    noteGeneration: (ref) => writeWhole(path.join(folder, 'generation.json'), `${JSON.stringify(ref)}\n`),
    // whole, but not brought to disk: the record is Redis', and until it is told the journal's
    writeResult: (result) => writeWhole(path.join(folder, 'result.json'), `${JSON.stringify(result, null, 2)}\n`),
    async [Symbol.asyncDispose]() {
      if (!log.closed) {
        log.end();
        await once(log, 'close');
      }
      await rm(input, { recursive: true, force: true });
    },
  };
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
