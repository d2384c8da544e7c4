/** A generation that stands on no other: a root made from nothing or from elsewhere, verified, and published. */
import { mkdir, statfs } from 'node:fs/promises';
import type { Backend } from '../backends/backend.ts';
import { isExecutable } from '../exec/executable.ts';
import { check } from '../exec/run.ts';
import { messageOf, TestbedError, UsageError } from '../protocol/errors.ts';
import { GoldenRefusal, type Argv } from '../protocol/testbed.ts';
import { mmdebstrap } from './bootstrap.ts';
import { beginWrite, type Candidate } from './candidate.ts';
import { noteEnding } from './ending.ts';
import type { FenceSource } from './fence-source.ts';
import { freshSession, type CheckContent } from './fresh-session.ts';
import type { ImageStore } from './layout.ts';
import type { GenerationRecord, Recipe, Strategy } from './record.ts';
import { directoryStore } from './store/directory-store.ts';
import { requireWritable } from './writable.ts';

/** What making an image needs from outside. */
export interface CreateTools {
  readonly store: ImageStore;
  readonly leases: FenceSource;
  /** Opens a first session before publishing, where given. */
  readonly backend?: Backend;
  readonly sessionId: string;
  /** Commands that must end with 0 on what is to be published. Need a backend. */
  readonly verify?: readonly Argv[];
  /** A further look at what is to be published. Needs a backend. */
  readonly check?: CheckContent;
  /** Checks that are wanted and not made here, with the reason: the record says so. */
  readonly notRun?: () => readonly string[];
  /** Who asked. */
  readonly by: string;
  readonly job?: string;
  /** For a person to watch. */
  readonly progress: (line: string) => void;
}

/** What is known about a root when it is there. */
export interface FilledRoot {
  readonly recipe: Recipe;
  /** As manifest.ts makes it. */
  readonly manifest: string;
  readonly sources: readonly string[];
  /** Checks that it has passed already. */
  readonly verified: readonly string[];
}

/** Makes the whole root in the candidate's empty layer. */
export type FillRoot = (
  candidate: Candidate,
  progress: (line: string) => void,
  signal: AbortSignal,
) => Promise<FilledRoot>;

type Step = 'bootstrap' | 'import' | 'verify' | 'canary' | 'publish';

/** Bytes that a bootstrap takes at its widest: mmdebstrap's own copy and ours. */
const roomNeeded = 1.5e9;

/** @throws {GoldenRefusal} locked, changed by another, or a check failed; {TestbedError} no room; what `fillRoot` throws */
export async function newGeneration(
  image: string,
  strategy: Exclude<Strategy, 'upgrade'>,
  tools: CreateTools,
  fillRoot: FillRoot,
  signal: AbortSignal,
): Promise<GenerationRecord> {
  const { store, leases } = tools;
  await mkdir(store.images, { recursive: true, mode: 0o755 });
  await requireWritable(store.images);
  await using lease = await leases.acquire(image, await directoryStore(store, image).highestFence(), signal);
  const stop = AbortSignal.any([signal, lease.signal]);
  await using candidate = await beginWrite(store, image, { fence: lease.fence, by: tools.by }, stop);
  if (strategy !== 'replace' && candidate.base !== undefined) throw exists(image);
  const attempt = new Attempt(candidate, tools);
  try {
    return await attempt.run(strategy, fillRoot, stop);
  } catch (cause) {
    // what the work threw after the lease was lost is only the echo of it
    const error = await candidate.explain(lease.signal.aborted && !signal.aborted ? lease.signal.reason : cause);
    const contended = error instanceof GoldenRefusal && error.word !== 'commit-failed'; // the image is fine
    if (!stop.aborted && !contended) await attempt.note(image, error);
    throw error;
  }
}

export function exists(image: string): UsageError {
  return new UsageError(image, `the image ${image} exists already`);
}

class Attempt {
  readonly #candidate: Candidate;
  readonly #tools: CreateTools;
  readonly #said: string[] = [];
  #step: Step = 'bootstrap';
  #manifest: string | undefined;

  constructor(candidate: Candidate, tools: CreateTools) {
    this.#candidate = candidate;
    this.#tools = tools;
  }

  async run(
    strategy: Exclude<Strategy, 'upgrade'>,
    fillRoot: FillRoot,
    signal: AbortSignal,
  ): Promise<GenerationRecord> {
    this.#step = strategy === 'import' ? 'import' : 'bootstrap';
    await requireRoom(this.#tools.store);
    const filled = await fillRoot(this.#candidate, (line) => this.#say(line), signal);
    this.#manifest = filled.manifest;
    const verified = [
      ...filled.verified,
      ...(await this.#verify(strategy === 'import', signal)),
      ...(this.#tools.notRun?.() ?? []),
    ];
    this.#step = 'publish';
    this.#say('goldbed: computing the digest');
    const { job } = this.#tools;
    const details = { ...filled, strategy, tools: await versions(signal), verified };
    return this.#candidate.publish({ ...details, ...(job === undefined ? {} : { job }) }, signal);
  }

  /** An image that was not there before is none now, either: nobody looks for it. */
  async note(image: string, error: unknown): Promise<void> {
    const { base } = this.#candidate;
    if (base === undefined) return;
    const reason = messageOf(error);
    this.#say(`goldbed: ${this.#step}: ${reason}`);
    const log = this.#said.map((line) => `${line}\n`).join('');
    const ending = { status: 'failed' as const, step: this.#step, reason, log, manifest: this.#manifest };
    await noteEnding({ ...this.#tools, image, base: base.generation }, ending, this.#tools.progress);
  }

  /** @param audit a bootstrap has made these checks by itself @returns what passed, if there was a backend to open it */
  async #verify(audit: boolean, signal: AbortSignal): Promise<string[]> {
    const { backend, sessionId, verify = [], check: canary } = this.#tools;
    this.#step = 'verify';
    if (backend === undefined) return ['fresh session: not run (no backend)'];
    const content = { layers: [this.#candidate.layerDirectory] };
    const passed = await freshSession(backend, content, { sessionId, verify, audit }, signal);
    if (canary === undefined) return passed;
    this.#step = 'canary';
    return [...passed, ...(await canary(content, signal))];
  }

  #say(line: string): void {
    this.#said.push(line);
    this.#tools.progress(line);
  }
}

async function versions(signal: AbortSignal): Promise<Record<string, string>> {
  if (!isExecutable(mmdebstrap)) return {}; // an import does without
  const { stdout } = await check([mmdebstrap, '--version'], { signal });
  return { mmdebstrap: stdout.replace('mmdebstrap', '').trim() };
}

async function requireRoom(store: ImageStore): Promise<void> {
  const { bavail, bsize } = await statfs(store.images);
  const free = bavail * bsize;
  if (free >= roomNeeded) return;
  const [has, wants] = [free, roomNeeded].map((bytes) => `${(bytes / 1e9).toFixed(1)} GB`);
  throw new TestbedError('start', 'mmdebstrap', `${store.images} has ${has} free; making an image takes ${wants}`);
}
