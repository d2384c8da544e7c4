/** A generation as one tar file, for other programs: what sbuild's unshare mode, docker import and tar(1) take. */
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { inMergedTree } from '../backends/layers/merged.ts';
import { isExecutable } from '../exec/executable.ts';
import { check } from '../exec/run.ts';
import { messageOf, UsageError } from '../protocol/errors.ts';
import { layoutOf, type ImageStore } from './layout.ts';
import { pinGeneration } from './pins.ts';
import { contentOf } from './stack.ts';
import type { GenerationRecord } from './record.ts';

/** By the end of the file's name, as tar itself would choose. */
const compressors: Readonly<Record<string, string>> = {
  '.tar': '',
  '.tar.gz': '/bin/gzip',
  '.tar.xz': '/usr/bin/xz',
  '.tar.zst': '/usr/bin/zstd',
};

/**
 * Writes the whole root beside `file`, then moves it there: the file is whole or not there.
 * @throws {UsageError} unknown image, or a name that tells no format
 */
export async function exportImage(
  store: ImageStore,
  image: string,
  generation: number | undefined,
  file: string,
  sessionId: string,
  signal: AbortSignal,
): Promise<GenerationRecord> {
  const target = path.resolve(file);
  const [, ending = ''] = /(\.tar(?:\.[a-z]+)?)$/.exec(target) ?? [];
  const compressor = compressors[ending];
  if (compressor === undefined) {
    throw new UsageError(file, `${file}: expected a name that ends in ${Object.keys(compressors).join(', ')}`);
  }
  if (compressor !== '' && !isExecutable(compressor)) {
    throw new UsageError(file, `${compressor} is missing: apt-get install ${path.basename(compressor)}`);
  }
  const wanted = generation === undefined ? {} : { generation };
  await using pin = await pinGeneration(store, image, { sessionId, what: 'export', ...wanted });
  const folder = await mkdtemp(`${target}.`).catch((error: unknown) => {
    throw new UsageError(file, `${file}: nothing can be written there (${messageOf(error)})`);
  });
  try {
    const [draft, mountPoint] = ['root.tar', 'merged'].map((name) => path.join(folder, name)) as [string, string];
    await mkdir(mountPoint);
    const compress = compressor === '' ? [] : [`--use-compress-program=${compressor}`];
    const args = ['--create', '--numeric-owner', '--xattrs', '--format=pax', ...compress, `--file=${draft}`, '.'];
    const content = contentOf(layoutOf(store, image), pin.record);
    await check(inMergedTree(content, mountPoint, 'exec /bin/tar "$@"', args), { signal });
    await rename(draft, target);
    return pin.record;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
