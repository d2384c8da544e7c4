/** All layers of a generation as one image of the daemon: packed from their merged tree, and sent to it. */
import { mkdtemp, rm } from 'node:fs/promises';
import path from 'node:path';
import type Docker from 'dockerode';
import { ended, start } from '../../exec/run.ts';
import { TestbedError } from '../../protocol/errors.ts';
import type { Content } from '../backend.ts';
import { inMergedTree } from '../layers/merged.ts';
import { referenceOf, removeImage, settings } from './daemon-image.ts';

/** Of the mount points: a killed process leaves an empty folder. */
export const mountPrefix = 'merged-';

/** Of the daemon's own making in each container. */
const leaveOut = ['./dev/*', './proc/*', './sys/*'].map((glob) => `--exclude=${glob}`);

/**
 * @param folder for a mount point
 * @throws {TestbedError} when the tree cannot be packed, or the daemon cannot take it: then there is no image
 */
export async function importImage(
  docker: Docker,
  content: Content,
  folder: string,
  tag: string,
  signal: AbortSignal,
): Promise<void> {
  const mountPoint = await mkdtemp(path.join(folder, mountPrefix));
  try {
    const pack = [
      'exec /bin/tar "$@"',
      ['--create', '--numeric-owner', '--xattrs', '--format=pax', ...leaveOut, '.'],
    ] as const;
    const tar = start(inMergedTree(content, mountPoint, ...pack), ['ignore', 'pipe', 'pipe'], { signal });
    let said = '';
    tar.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()));
    if (tar.stdout === null) throw new TypeError('no pipe');
    // with the tag in the name, not beside it: that is all that podman heeds
    const query = { fromSrc: '-', repo: referenceOf(tag), changes: settings };
    const sending = docker.importImage(tar.stdout, query).then((answer) => readAnswer(docker, answer));
    const [code] = await Promise.all([ended(tar, { signal }), sending]);
    if (code !== 0) {
      await removeImage(docker, tag); // the daemon cannot tell half a tree from a whole one
      throw new TestbedError(
        'open',
        'docker',
        `packing the image: ${said.trim().split('\n').at(-1) ?? `exit ${code}`}`,
      );
    }
  } finally {
    await rm(mountPoint, { recursive: true, force: true });
  }
}

/** The daemon tells of failures in the stream of its answer. */
async function readAnswer(docker: Docker, answer: NodeJS.ReadableStream): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    docker.modem.followProgress(answer, (error: Error | null, lines: unknown) => {
      const failure = Array.isArray(lines) ? lines.map(errorOf).find((text) => text !== undefined) : undefined;
      const text = error?.message ?? failure;
      if (text === undefined) resolve();
      else reject(new TestbedError('open', 'docker', `importing the image: ${text}`));
    });
  });
}

function errorOf(line: unknown): string | undefined {
  const { error } = line as { error?: unknown };
  return typeof error === 'string' ? error : undefined;
}
