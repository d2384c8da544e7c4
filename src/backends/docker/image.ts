/**
 * A generation as an image of the daemon: made once per host, and found again by its digest. Where the daemon has the one
 * that it stands on, only the layer on top is added (add-layer.ts); else the whole is imported from its merged layers. It
 * is a cache: what the daemon loses is made again.
 */
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, rmdir } from 'node:fs/promises';
import path from 'node:path';
import type Docker from 'dockerode';
import * as z from 'zod';
import { readText, writeWhole } from '../../exec/durable.ts';
import { flock } from '../../exec/flock.ts';
import type { Content } from '../backend.ts';
import { addLayer, removeHelper } from './add-layer.ts';
import { statusOf } from './client.ts';
import { exists, referenceOf, removeImage, tagOf } from './daemon-image.ts';
import { importImage, mountPrefix } from './import-image.ts';

/** An image to make containers of. Dispose removes one that belongs to no published generation. */
export interface DaemonImage extends AsyncDisposable {
  readonly reference: string;
}

/** @param folder for locks, notes and mount points; made if missing */
export async function ensureImage(
  docker: Docker,
  content: Content,
  folder: string,
  sessionId: string,
  signal: AbortSignal,
): Promise<DaemonImage> {
  const { digest } = content;
  const tag = digest === undefined ? `candidate-${sessionId}` : tagOf(digest);
  const reference = referenceOf(tag);
  const note = JSON.stringify(content.layers);
  const isThere = async (): Promise<boolean> => digest !== undefined && (await exists(docker, tag));
  // the layers of a generation may become others, of the same content
  if ((await readText(noteOf(folder, tag))) !== note || !(await isThere())) {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await using _ = await flock(lockOf(folder), signal); // a hundred sessions, one import
    writeWhole(noteOf(folder, tag), note); // before there is an image: whatever is killed, it will be found
    if (!(await isThere())) await makeImage(docker, content, folder, tag, signal);
  }
  return {
    reference,
    async [Symbol.asyncDispose]() {
      if (digest === undefined) await removeNoted(docker, folder, tag);
    },
  };
}

async function makeImage(
  docker: Docker,
  content: Content,
  folder: string,
  tag: string,
  signal: AbortSignal,
): Promise<void> {
  const { change } = content;
  if (change !== undefined && (await addLayer(docker, change, tag, folder, signal))) return;
  await importImage(docker, content, folder, tag, signal);
}

/**
 * Removes the images of what is gone, generations and candidates, and what killed processes left of making one. While
 * somebody makes one, it leaves that to the next clean-up.
 */
export async function removeUnused(docker: Docker, folder: string): Promise<void> {
  if (!existsSync(folder)) return;
  await using lock = await flock(lockOf(folder), undefined, false);
  if (lock === undefined) return;
  await removeHelper(docker, folder);
  for (const name of await readdir(folder)) {
    const file = path.join(folder, name);
    if (name.startsWith(mountPrefix)) await rmdir(file).catch(() => {}); // one that is not empty is not ours
    if (!name.endsWith(noteSuffix) || (await layersIn(file)).every((layer) => existsSync(layer))) continue;
    try {
      await removeNoted(docker, folder, name.slice(0, -noteSuffix.length));
    } catch (error) {
      if (statusOf(error) !== 409) throw error; // of a container that stays: later
    }
  }
}

async function removeNoted(docker: Docker, folder: string, tag: string): Promise<void> {
  await removeImage(docker, tag);
  await rm(noteOf(folder, tag), { force: true });
}

/** A note that makes no sense leads nowhere: its image is made again. */
async function layersIn(note: string): Promise<string[]> {
  try {
    return z.array(z.string()).parse(JSON.parse(await readFile(note, 'utf8')));
  } catch {
    return ['/nonexistent'];
  }
}

const lockOf = (folder: string): string => path.join(folder, 'import.lock');

const noteSuffix = '.layers.json';

/** Says which layers an image was made of: it is of no use without them. */
function noteOf(folder: string, tag: string): string {
  return path.join(folder, `${tag}${noteSuffix}`);
}
