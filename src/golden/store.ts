/** Reading the store: which images and generations there are. Needs no lock: what is published never changes. */
import { readdir, readlink } from 'node:fs/promises';
import path from 'node:path';
import { UsageError } from '../protocol/errors.ts';
import { imageNameSchema, type ImageName } from '../protocol/image.ts';
import { isMissing, readJson, readText } from '../exec/durable.ts';
import { generationFolder, layoutOf, type ImageLayout, type ImageStore } from './layout.ts';
import { recordSchema, type GenerationRecord } from './record.ts';

/** Names of the images that have a current generation, sorted. */
export async function imageNames(store: ImageStore): Promise<ImageName[]> {
  const names = (await entries(store.images)).filter((name) => imageNameSchema.safeParse(name).success);
  const heads = await Promise.all(names.map((name) => headGeneration(layoutOf(store, name))));
  return names.filter((_, index) => heads[index] !== undefined).toSorted();
}

/** The number of the current generation, by image. */
export async function currentGenerations(store: ImageStore): Promise<Record<ImageName, number>> {
  const names = await imageNames(store);
  const heads = await Promise.all(
    names.map(async (name) => [name, await headGeneration(layoutOf(store, name))] as const),
  );
  return Object.fromEntries(heads.flatMap(([name, head]) => (head === undefined ? [] : [[name, head]])));
}

/** The current generation. @throws {UsageError} when there is no such image; it lists those that exist */
export async function readHead(store: ImageStore, image: string): Promise<GenerationRecord> {
  const layout = layoutOf(store, image);
  const head = await headGeneration(layout);
  if (head === undefined) throw await unknownImage(store, image);
  return readGeneration(layout, head);
}

/** The number that `head` points to; undefined when the image does not exist (yet). */
export async function headGeneration(layout: ImageLayout): Promise<number | undefined> {
  try {
    const [, number] = /^generations\/([1-9]\d*)$/.exec(await readlink(layout.head)) ?? [];
    if (number === undefined) throw new Error(`${layout.head} does not point to a generation`);
    return Number(number);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/** @throws {UsageError} when the image has no such generation (any more) */
export async function readGeneration(layout: ImageLayout, generation: number): Promise<GenerationRecord> {
  const record = await readJson(path.join(generationFolder(layout, generation), 'record.json'), recordSchema);
  if (record !== undefined) return record;
  const known = (await generationNumbers(layout)).join(', ');
  throw new UsageError(layout.image, `${layout.image} has no generation ${generation} (it has ${known || 'none'})`);
}

/** The packages of its parent, which may be gone; undefined when it had none. */
export function readParentManifest(layout: ImageLayout, generation: number): Promise<string | undefined> {
  return readText(path.join(generationFolder(layout, generation), 'parent.tsv'));
}

/** Its packages, by line (manifest.ts). */
export async function readManifest(layout: ImageLayout, generation: number): Promise<string> {
  const file = path.join(generationFolder(layout, generation), 'manifest.tsv');
  const text = await readText(file);
  if (text === undefined) throw new Error(`${file} is missing`);
  return text;
}

/** Numbers of all generations on disk, lowest first. */
export async function generationNumbers(layout: ImageLayout): Promise<number[]> {
  const names = (await entries(layout.generations)).filter((name) => /^[1-9]\d*$/.test(name));
  return names.map(Number).toSorted((one, other) => one - other);
}

export async function unknownImage(store: ImageStore, image: string): Promise<UsageError> {
  const names = await imageNames(store);
  const known = names.length === 0 ? 'there are none yet: goldbed image create' : `there are: ${names.join(', ')}`;
  return new UsageError(image, `there is no image ${image} (${known})`);
}

/** Names in a folder; none when it is not there. */
export async function entries(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}
