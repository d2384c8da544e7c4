/** Is a generation on disk still what its record says? Reads all of the layers that sessions open. */
import { randomUUID } from 'node:crypto';
import { digestLayer } from './digest.ts';
import { layoutOf, type ImageStore } from './layout.ts';
import { pinGeneration } from './pins.ts';
import { digestOfLayers } from './record.ts';
import { foldersOf, stackOf } from './stack.ts';
import { headGeneration, unknownImage } from './store.ts';

export interface Verdict {
  readonly generation: number;
  readonly digest: string;
  /** Generations whose layer differs from the record; none when all is well. */
  readonly damaged: readonly number[];
}

/** @param generation default: the current one @throws {UsageError} when there is no such image or generation */
export async function verifyGeneration(
  store: ImageStore,
  image: string,
  generation: number | undefined,
  signal: AbortSignal,
): Promise<Verdict> {
  const layout = layoutOf(store, image);
  const asked = generation ?? (await headGeneration(layout));
  if (asked === undefined) throw await unknownImage(store, image);
  // not collected meanwhile: what is half gone would be told as damaged
  const request = { sessionId: randomUUID().replaceAll('-', ''), what: 'verify', generation: asked };
  await using pinned = await pinGeneration(store, image, request);
  const { record } = pinned;
  const damaged: number[] = [];
  for (const layer of stackOf(layout, record)) {
    const [folder = ''] = foldersOf(layout, [layer]);
    const { digest } = await digestLayer(folder, signal);
    if (digest !== layer.digest) damaged.push(layer.generation);
  }
  if (digestOfLayers(record.layers) !== record.digest) damaged.push(record.generation);
  return { generation: asked, digest: record.digest, damaged };
}
