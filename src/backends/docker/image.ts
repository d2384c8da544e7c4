/**
 * A generation as an image of the daemon: imported once per host from its merged layers, and found again by its digest.
 * It is a cache: what the daemon loses is imported again.
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import path from 'node:path';
import type Docker from 'dockerode';
import { ended, start } from '../../exec/run.ts';
import { flock } from '../../exec/flock.ts';
import { TestbedError } from '../../protocol/errors.ts';
import type { Content } from '../backend.ts';
import { inMergedTree } from '../layers/merged.ts';
import { statusOf } from './client.ts';

/** Changes whenever a generation becomes another image than before. */
const repository = 'goldbed-2';

/** An image to make containers of. Dispose removes one that belongs to no published generation. */
export interface DaemonImage extends AsyncDisposable {
  readonly reference: string;
}

/** @param folder for locks and mount points; made if missing */
export async function ensureImage(
  docker: Docker,
  content: Content,
  folder: string,
  sessionId: string,
  signal: AbortSignal,
): Promise<DaemonImage> {
  const { digest } = content;
  const tag = digest === undefined ? `candidate-${sessionId}` : digest.replace(/^sha256:/, '');
  const reference = `${repository}:${tag}`;
  if (digest === undefined) {
    await importImage(docker, content, folder, tag, signal);
    const remove = (): Promise<void> => removeImage(docker, reference);
    return { reference, [Symbol.asyncDispose]: remove };
  }
  if (!(await exists(docker, reference))) {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await using lock = await flock(path.join(folder, 'import.lock'), signal); // a hundred sessions, one import
    lock.lost.throwIfAborted();
    if (!(await exists(docker, reference))) await importImage(docker, content, folder, tag, signal);
  }
  return { reference, async [Symbol.asyncDispose]() {} };
}

async function exists(docker: Docker, reference: string): Promise<boolean> {
  try {
    await docker.getImage(reference).inspect();
    return true;
  } catch (error) {
    if (statusOf(error) === 404) return false;
    throw error;
  }
}

/** Of the daemon's own making in each container. */
const leaveOut = ['./dev/*', './proc/*', './sys/*'].map((glob) => `--exclude=${glob}`);

async function importImage(
  docker: Docker,
  content: Content,
  folder: string,
  tag: string,
  signal: AbortSignal,
): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const mountPoint = await mkdtemp(path.join(folder, 'merged-'));
  try {
    const pack = [
      'exec /bin/tar "$@"',
      ['--create', '--numeric-owner', '--xattrs', '--format=pax', ...leaveOut, '.'],
    ] as const;
    const tar = start(inMergedTree(content, mountPoint, ...pack), ['ignore', 'pipe', 'pipe'], { signal });
    let said = '';
    tar.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()));
    if (tar.stdout === null) throw new TypeError('no pipe');
    const query = { fromSrc: '-', repo: repository, tag, changes: ['LABEL goldbed.image=1'] };
    const sending = docker.importImage(tar.stdout, query).then((answer) => readAnswer(docker, answer));
    const [code] = await Promise.all([ended(tar, { signal }), sending]);
    if (code !== 0) {
      await removeImage(docker, `${repository}:${tag}`); // the daemon cannot tell half a tree from a whole one
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

async function removeImage(docker: Docker, reference: string): Promise<void> {
  try {
    await docker.getImage(reference).remove({ force: true });
  } catch (error) {
    if (statusOf(error) !== 404) throw error;
  }
}
