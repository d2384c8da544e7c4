/** A testbed whose changes may become the next generation: lease, candidate and testbed, opened in that order. */
import type { BackendTestbed, Content } from '../backends/backend.ts';
import { messageOf } from '../protocol/errors.ts';
import { generationId } from '../protocol/image.ts';
import { GoldenRefusal, type GoldenTestbed } from '../protocol/testbed.ts';
import { beginWrite, type Candidate } from './candidate.ts';
import type { WriteLease } from './fence-source.ts';
import { freshSession } from './fresh-session.ts';
import { layoutOf } from './layout.ts';
import { versionIn } from './manifest.ts';
import { refOf, type GenerationRecord } from './record.ts';
import { untilCommandsEnd } from './running-commands.ts';
import type { ImageSourceOptions } from './source.ts';
import { contentOf, foldersOf } from './stack.ts';
import { readHead, unknownImage } from './store.ts';
import { directoryStore } from './store/directory-store.ts';
import { together } from './together.ts';
import { manifestInside, sourcesInside, verifyInside } from './verify.ts';
import { requireWritable, unavailableBy } from './writable.ts';
import { withDispose } from './with-dispose.ts';

/** @throws {UsageError} unknown image; {GoldenRefusal} locked; {TestbedError} */
export async function openGoldenTestbed(options: ImageSourceOptions, signal: AbortSignal): Promise<GoldenTestbed> {
  const { store, image, leases, sessionId, backend, who } = options;
  await readHead(store, image); // an unknown image is told before anything is made
  await requireWritable(layoutOf(store, image).root).catch((error: unknown) => {
    throw new GoldenRefusal('golden-unavailable', messageOf(error), { cause: error });
  });
  const held = disposables();
  try {
    const lease = held.add(await leases.acquire(image, await directoryStore(store, image).highestFence(), signal));
    const candidate = held.add(await beginWrite(store, image, { fence: lease.fence, by: who.by }, signal));
    const { base } = candidate;
    if (base === undefined) throw await unknownImage(store, image);
    const layout = layoutOf(store, image);
    const content = { ...contentOf(layout, base), layers: foldersOf(layout, candidate.below) };
    const kept = { sessionId, keepChangesIn: candidate.layerDirectory };
    const testbed = held.add(await backend.open(content, kept, AbortSignal.any([signal, lease.signal])));
    options.onOpened?.(refOf(base));
    const write: GoldenWrite = { options, lease, candidate, base, content, testbed };
    // assign, not spread: `auxverb` is a getter
    return Object.assign(withDispose(testbed, held.dispose), {
      generationId: generationId(base),
      commit: (stop: AbortSignal) => commitAndClose(write, held.dispose, stop),
    });
  } catch (error) {
    await held.dispose();
    throw unavailableBy(error) ?? error;
  }
}

interface GoldenWrite {
  readonly options: ImageSourceOptions;
  readonly lease: WriteLease;
  readonly candidate: Candidate;
  readonly base: GenerationRecord;
  readonly content: Content;
  readonly testbed: BackendTestbed;
  /** What is to be published, as soon as that is known. */
  manifest?: string;
}

/** What was published stands, also when removing what is left of the session fails. */
async function commitAndClose(write: GoldenWrite, dispose: () => Promise<void>, signal: AbortSignal): Promise<void> {
  try {
    await commit(write, signal);
  } finally {
    await dispose().catch(() => {});
  }
}

/** @throws {GoldenRefusal} for whatever goes wrong, except the signal's own reason: nothing was published then */
async function commit(write: GoldenWrite, signal: AbortSignal): Promise<void> {
  const { candidate, lease, options } = write;
  try {
    const record = await verifyAndPublish(write, AbortSignal.any([signal, lease.signal]));
    options.onPublished?.(refOf(record));
  } catch (cause) {
    signal.throwIfAborted();
    const error = await candidate.explain(cause);
    if (error instanceof GoldenRefusal && error.word !== 'commit-failed') throw error;
    if (lease.signal.aborted) {
      const message = `${options.image} was not written: ${messageOf(lease.signal.reason)}`;
      throw new GoldenRefusal('golden-changed', message, { cause: error });
    }
    const reason = messageOf(error);
    await options.onRefused?.({ base: write.base.generation, reason, manifest: write.manifest });
    throw error instanceof GoldenRefusal ? error : new GoldenRefusal('commit-failed', reason, { cause: error });
  }
}

async function verifyAndPublish(write: GoldenWrite, signal: AbortSignal): Promise<GenerationRecord> {
  const { options, candidate, base, content, testbed } = write;
  await untilCommandsEnd(testbed.auxverb, signal);
  // together: all of them only look; the manifest first of all, which is kept if the others refuse
  const [manifest, verified, sources] = await together([
    manifestInside(testbed.auxverb, signal).then((found) => (write.manifest = found)),
    verifyInside(testbed.auxverb, signal),
    sourcesInside(testbed.auxverb, signal),
  ]);
  if (testbed.capture === undefined)
    throw new GoldenRefusal('commit-failed', `${options.backend.name} keeps no changes`);
  await testbed.capture(signal);
  await testbed[Symbol.asyncDispose](); // its session id is free for the check's testbed now
  const layers = [...content.layers, candidate.layerDirectory];
  const next = { layers, change: { base: base.digest, layer: candidate.layerDirectory } };
  verified.push(...(await freshSession(options.backend, next, options, signal)), ...(options.notRun?.() ?? []));
  const tools = ['apt', 'dpkg'].flatMap((name) => {
    const version = versionIn(manifest, name);
    return version === undefined ? [] : [[name, version] as const];
  });
  const { job } = options.who;
  const made = { strategy: 'upgrade' as const, recipe: base.recipe, tools: Object.fromEntries(tools) };
  return candidate.publish({ ...made, manifest, sources, verified, ...(job === undefined ? {} : { job }) }, signal);
}

/** Disposes in reverse, each once, all of them whatever fails. */
function disposables() {
  const all: AsyncDisposable[] = [];
  let ending: Promise<void> | undefined;
  const end = async (): Promise<void> => {
    const failures: unknown[] = [];
    for (const one of all.toReversed()) {
      try {
        await one[Symbol.asyncDispose]();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  };
  return {
    add<T extends AsyncDisposable>(one: T): T {
      all.push(one);
      return one;
    },
    dispose: (): Promise<void> => (ending ??= end()),
  };
}
