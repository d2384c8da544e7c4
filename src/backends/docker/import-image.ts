/** All layers of a generation as one image of the daemon: packed from their merged tree, and sent to it. */
import { mkdtemp, rm } from 'node:fs/promises';
import path from 'node:path';
import type Docker from 'dockerode';
import { within } from '../../exec/patience.ts';
import { ended, killGroup, start } from '../../exec/run.ts';
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
    await send(docker, content, mountPoint, tag, signal);
  } finally {
    await rm(mountPoint, { recursive: true, force: true });
  }
}

async function send(
  docker: Docker,
  content: Content,
  mountPoint: string,
  tag: string,
  signal: AbortSignal,
): Promise<void> {
  const pack = [
    'exec /bin/tar "$@"',
    ['--create', '--numeric-owner', '--xattrs', '--format=pax', ...leaveOut, '.'],
  ] as const;
  const tar = start(inMergedTree(content, mountPoint, ...pack), ['ignore', 'pipe', 'pipe'], { signal });
  let said = '';
  tar.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  if (tar.stdout === null) throw new TypeError('no pipe');
  const packing = ended(tar, { signal });
  // with the tag in the name, not beside it: that is all that podman heeds
  const query = { fromSrc: '-', repo: referenceOf(tag), changes: settings };
  // an abort cuts the request off: were it ended by the end of tar, the daemon would take half a tree for a whole one
  const cut = new AbortController();
  const abortSignal = AbortSignal.any([signal, cut.signal]);
  const sending = docker
    .importImage(tar.stdout, { ...query, abortSignal })
    .then((answer) => readAnswer(docker, answer));
  try {
    const [code] = await Promise.all([packing, sending]);
    if (code !== 0) throw notPacked(said, code);
  } catch (error) {
    cut.abort();
    killGroup(tar, 'SIGKILL'); // it may wait for a daemon that has refused the rest
    tar.stdout.destroy();
    await Promise.allSettled([packing, sending]);
    await leaveNone(docker, tag);
    signal.throwIfAborted();
    throw error;
  }
}

function notPacked(said: string, code: number): TestbedError {
  const [last] = said.trim().split('\n').slice(-1);
  return new TestbedError('open', 'docker', `packing the image: ${last === '' ? `exit ${code}` : last}`);
}

/** Milliseconds for a daemon that has just failed us: what went wrong is told first. */
const removeLimit = 10_000;

/** The daemon cannot tell half a tree from a whole one, and may have had the end of either when we gave up. */
async function leaveNone(docker: Docker, tag: string): Promise<void> {
  const late = (): Error => new TestbedError('open', 'docker', 'no answer');
  await within(removeImage(docker, tag), removeLimit, late).catch(() => {});
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
