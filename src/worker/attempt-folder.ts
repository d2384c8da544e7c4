/**
 * One attempt of one run on disk: `jobs/<run>/<attempt>/` with `log` (the client's own output, unchanged), `artifacts/`
 * (what it made), `input/` (what it was given, removed at the end) and `result.json`.
 */
import { createWriteStream, type WriteStream } from 'node:fs';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { once } from 'node:events';
import { takeFile } from '../artifacts/store.ts';
import type { State } from '../config/state.ts';
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
  writeResult(result: Outcome | { readonly error: string }): Promise<void>;
}

/** Where the attempts of a run are. */
export function runFolder(state: Pick<State, 'jobs'>, runId: string): string {
  return path.join(state.jobs, runId);
}

/** A fresh folder; what a lost attempt of the same number left is removed first. */
export async function openAttemptFolder(
  state: Pick<State, 'jobs'>,
  runId: string,
  attempt: number,
): Promise<AttemptFolder> {
  const folder = path.join(runFolder(state, runId), String(attempt));
  await rm(folder, { recursive: true, force: true });
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
    writeResult: (result) => writeFile(path.join(folder, 'result.json'), `${JSON.stringify(result, null, 2)}\n`),
    async [Symbol.asyncDispose]() {
      if (!log.closed) {
        log.end();
        await once(log, 'close');
      }
      await rm(input, { recursive: true, force: true });
    },
  };
}
