/** Replacing an image as a job does it: counted, noted and told like any other update. */
import { messageOf } from '../protocol/errors.ts';
import type { OutcomeResult } from '../protocol/outcome.ts';
import { GoldenRefusal } from '../protocol/testbed.ts';
import { replaceImage } from './create.ts';
import { layoutOf } from './layout.ts';
import { packageChanges } from './manifest.ts';
import type { CreateTools } from './new-generation.ts';
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
  const { store } = tools;
  const layout = layoutOf(store, image);
  const before = (await readHead(store, image)).generation;
  const old = await readManifest(layout, before);
  try {
    const record = await replaceImage(image, tools, signal);
    const packages = packageChanges(old, await readManifest(layout, record.generation));
    const { generation: after, digest } = record;
    return { kind: 'update-golden', exitCode: 0, status: 'published', before, after, digest, packages };
  } catch (error) {
    if (signal.aborted || !(error instanceof GoldenRefusal) || error.word !== 'commit-failed') throw error;
    const packages = { added: 0, removed: 0, changed: 0 };
    const reason = messageOf(error);
    return { kind: 'update-golden', exitCode: 1, status: 'failed', before, after: before, packages, reason };
  }
}
