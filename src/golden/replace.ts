/** Replacing an image as a job does it: counted, noted and told like any other update. */
import { ImageError, messageOf } from '../protocol/errors.ts';
import type { OutcomeResult } from '../protocol/outcome.ts';
import { GoldenRefusal } from '../protocol/testbed.ts';
import { replaceImage, type CreateTools } from './create.ts';
import { layoutOf } from './layout.ts';
import { noteUpdate } from './looked.ts';
import { packageChanges } from './manifest.ts';
import { readHead, readManifest } from './store.ts';

/**
 * @throws {TestbedError} bootstrapping failed; {GoldenRefusal} locked, or changed by another;
 * {ImageError} the right to write it was lost; {UsageError}
 */
export async function updateByReplacing(
  image: string,
  tools: CreateTools,
  signal: AbortSignal,
): Promise<Extract<OutcomeResult, { kind: 'update-golden' }>> {
  const { store, by, job } = tools;
  const layout = layoutOf(store, image);
  const who = { by, ...(job === undefined ? {} : { job }) };
  const before = (await readHead(store, image)).generation;
  const old = await readManifest(layout, before);
  try {
    const record = await replaceImage(image, tools, signal);
    await noteUpdate(store, image, { status: 'published' }, who);
    const packages = packageChanges(old, await readManifest(layout, record.generation));
    return { kind: 'update-golden', exitCode: 0, status: 'published', before, after: record.generation, packages };
  } catch (error) {
    const refused = error instanceof GoldenRefusal && error.word !== 'commit-failed';
    const contended = refused || error instanceof ImageError; // the image is fine
    if (signal.aborted || contended) throw error;
    const reason = messageOf(error);
    await noteUpdate(store, image, { status: 'failed', step: 'bootstrap', reason }, who);
    if (!(error instanceof GoldenRefusal)) throw error;
    const packages = { added: 0, removed: 0, changed: 0 };
    return { kind: 'update-golden', exitCode: 1, status: 'failed', before, after: before, packages, reason };
  }
}
