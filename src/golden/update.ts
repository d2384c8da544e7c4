/**
 * Updating an image as a client of an adt-virt session: open-golden, sbuild-update's steps, then commit-golden if anything
 * changed, close (discard) if not or if a step failed. Knows the session only by the protocol, so it runs over the wire.
 */
import { messageOf } from '../protocol/errors.ts';
import type { OutcomeResult, Steps } from '../protocol/outcome.ts';
import { GoldenRefusal, type Argv } from '../protocol/testbed.ts';
import { noteEnding } from './ending.ts';
import { layoutOf, type ImageStore } from './layout.ts';
import { insideState } from './inside-state.ts';
import { packageChanges, type PackageChanges } from './manifest.ts';
import { headGeneration, readHead } from './store.ts';
import { joinSteps, updateSteps, type UpdateStep } from './update-steps.ts';
import { manifestInside, runInside } from './verify.ts';

/** What an update needs of a client session (src/protocol/adt-virt). */
export interface GoldenSession {
  /** @throws {GoldenRefusal} `golden-locked`, `golden-unavailable` */
  openGolden(): Promise<unknown>;
  executeCommand(): Promise<Argv>;
  /** @throws {GoldenRefusal} `commit-failed`, `golden-changed`; the session is Closed either way */
  commitGolden(): Promise<unknown>;
  /** Discards what was not committed. */
  close(): Promise<unknown>;
}

export interface UpdateRequest {
  readonly store: ImageStore;
  readonly image: string;
  readonly session: GoldenSession;
  /** sbuild-update's; default `udcar`. */
  readonly letters?: string;
  readonly by: string;
  readonly job?: string;
  /** Why the server would not commit: on the wire it says only that. */
  readonly refusal?: () => string | undefined;
  /** Gets every step's output as it comes, and a headline before each. */
  readonly log: (text: string) => void;
}

export interface UpdateResult {
  /** As a job's Outcome carries it. */
  readonly result: Extract<OutcomeResult, { kind: 'update-golden' }>;
  readonly steps: Steps;
}

/** Characters, and bytes, of what an update says that are kept in memory: the last ones. */
const kept = 1024 * 1024;

const none: PackageChanges = { added: 0, removed: 0, changed: 0 };

/** @throws {TestbedError} when the session fails; {GoldenRefusal} when the image is locked, or was changed by another */
export async function updateImage(request: UpdateRequest, signal: AbortSignal): Promise<UpdateResult> {
  const { store, image, session } = request;
  const steps = updateSteps(request.letters);
  await readHead(store, image);
  const times = stopwatch();
  await times.measure('opened', () => session.openGolden());
  const before = await currentNumber(request); // nobody else can move it while we may write
  let said = ''; // its end
  const log = (text: string): void => {
    said += text;
    if (said.length > 2 * kept) said = said.slice(-kept);
    request.log(text);
  };
  let ending: Ending;
  try {
    ending = await work({ ...request, log }, steps, times, signal);
  } catch (error) {
    await session.close().catch(() => {}); // the first error is the one to tell
    throw error;
  }
  const published = ending.status === 'published' ? await readHead(store, image) : undefined;
  const attempt = { ...request, base: before };
  const complain = (line: string): void => request.log(`${line}\n`);
  if (ending.status === 'unchanged') await noteEnding(attempt, ending, complain);
  if (ending.status === 'failed') await noteEnding(attempt, { ...ending, log: said.slice(-kept) }, complain);
  const { status, packages } = ending;
  const made = published === undefined ? { after: before } : { after: published.generation, digest: published.digest };
  const failure = ending.status === 'failed' ? { reason: `${ending.step}: ${ending.reason}` } : {};
  const exitCode = status === 'failed' ? 1 : 0;
  return {
    result: { kind: 'update-golden', exitCode, status, before, ...made, packages, ...failure },
    steps: times.steps,
  };
}

type Ending = { readonly packages: PackageChanges } & (
  | { readonly status: 'published' }
  | { readonly status: 'unchanged' }
  | { readonly status: 'failed'; readonly step: string; readonly reason: string; readonly manifest: string | undefined }
);

/** Leaves the session Closed. */
async function work(
  { session, refusal, log }: UpdateRequest,
  steps: readonly UpdateStep[],
  times: Stopwatch,
  signal: AbortSignal,
): Promise<Ending> {
  const auxverb = await session.executeCommand();
  const before = await insideState(auxverb, signal);
  for (const { name, argv } of joinSteps(steps, before.manifest)) {
    log(`\ngoldbed: ${name}\n`);
    const said = { onOutput: (chunk: Buffer): void => log(chunk.toString()), keep: kept, atMost: Infinity };
    const { code, stdout, stderr } = await times.measure(name, () => runInside(auxverb, argv, signal, said));
    if (code === 0) continue;
    const manifest = await manifestInside(auxverb, signal).catch(() => undefined); // dpkg itself may be broken
    await session.close();
    const reason = `exit ${code}: ${errorLine(stdout, stderr)}`;
    return { status: 'failed', packages: none, step: name, reason, manifest };
  }
  const after = await insideState(auxverb, signal);
  if (before.everything === after.everything) {
    log('\ngoldbed: nothing changed, nothing to publish\n');
    await times.measure('closed', () => session.close());
    return { status: 'unchanged', packages: none };
  }
  log('\ngoldbed: commit\n');
  try {
    await times.measure('committed', () => session.commitGolden());
  } catch (error) {
    if (!(error instanceof GoldenRefusal) || error.word !== 'commit-failed') throw error;
    const reason = refusal?.() ?? messageOf(error);
    return { status: 'failed', packages: none, step: 'commit', reason, manifest: after.manifest };
  }
  return { status: 'published', packages: packageChanges(before.manifest, after.manifest) };
}

/** The line that says why apt gave up: its first error, else the last that it said. */
function errorLine(stdout: string, stderr: string): string {
  const lines = `${stdout}\n${stderr}`.split('\n').filter((line) => line.trim() !== '');
  return (lines.find((line) => line.startsWith('E: ')) ?? lines.at(-1) ?? 'no output').slice(0, 300);
}

async function currentNumber({ store, image }: UpdateRequest): Promise<number> {
  return (await headGeneration(layoutOf(store, image))) ?? 0;
}

type Stopwatch = ReturnType<typeof stopwatch>;

function stopwatch() {
  const steps: { name: string; seconds: number }[] = [];
  return {
    steps,
    async measure<T>(name: string, action: () => Promise<T>): Promise<T> {
      const begun = performance.now();
      try {
        return await action();
      } finally {
        steps.push({ name, seconds: Math.round(performance.now() - begun) / 1000 });
      }
    },
  };
}
