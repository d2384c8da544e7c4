/**
 * A generation as an image of the daemon: imported once per host from its merged layers, and found again by its digest.
 * It is a cache: what the daemon loses is imported again.
 */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type Docker from 'dockerode';
import * as z from 'zod';
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
    await using _ = await flock(path.join(folder, 'import.lock'), signal); // a hundred sessions, one import
    if (!(await exists(docker, reference))) await importImage(docker, content, folder, tag, signal);
    await writeFile(noteOf(folder, tag), JSON.stringify(content.layers));
  }
  return { reference, async [Symbol.asyncDispose]() {} };
}

/** Removes the images of generations of ours that are gone. */
export async function removeUnused(docker: Docker, folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  for (const name of names.filter((each) => each.endsWith(noteSuffix))) {
    const note = path.join(folder, name);
    if ((await layersIn(note)).every((layer) => existsSync(layer))) continue;
    await removeImage(docker, `${repository}:${name.slice(0, -noteSuffix.length)}`);
    await rm(note, { force: true });
  }
}

/** A note that was half written leads nowhere: its image is imported again. */
async function layersIn(note: string): Promise<string[]> {
  try {
    return z.array(z.string()).parse(JSON.parse(await readFile(note, 'utf8')));
  } catch {
    return ['/nonexistent'];
  }
}

const noteSuffix = '.layers.json';

/** Says which layers an image was made of: it is of no use without them. */
function noteOf(folder: string, tag: string): string {
  return path.join(folder, `${tag}${noteSuffix}`);
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
    // with the tag in it, not beside it: that is all that podman heeds
    const query = { fromSrc: '-', repo: `${repository}:${tag}`, changes: ['LABEL goldbed.image=1'] };
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
