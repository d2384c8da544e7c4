/**
 * The private folders of writers, `work/<fence>-<process>/`: the name says whose it is, so that a newcomer removes those of
 * the dead and leaves those of the living, however late they are: they go by themselves.
 */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { removeDeadDrafts } from '../exec/durable.ts';
import { isAlive, ownIdentity, type ProcessIdentity } from '../exec/process-identity.ts';
import { discard } from '../exec/trash.ts';
import type { ImageLayout, ImageStore } from './layout.ts';
import { entries } from './store.ts';

export interface WorkFolder {
  readonly name: string;
  readonly path: string;
}

export async function makeWorkFolder(layout: ImageLayout, fence: number): Promise<WorkFolder> {
  const { pid, started, bootId, pidNamespace, sign } = ownIdentity();
  const process = [`${pid}-${started}-${bootId}`, pidNamespace, sign].filter((part) => part !== undefined).join('.');
  const name = `${fence}-${process}`;
  const folder = path.join(layout.work, name);
  await mkdir(folder, { recursive: true, mode: 0o755 });
  return { name, path: folder };
}

/** A fence is used once, so no new folder has the name of an old one. With the work goes what they had begun to write down. */
export async function removeDeadWork(store: ImageStore, layout: ImageLayout): Promise<void> {
  for (const name of await entries(layout.work)) {
    if (!isOfTheLiving(name)) await discard(path.join(layout.work, name), store.trash);
  }
  for (const folder of [layout.root, layout.failed, layout.waiting]) await removeDeadDrafts(folder);
}

/** Fences of those that are still at work. */
export async function fencesAtWork(layout: ImageLayout): Promise<number[]> {
  return (await entries(layout.work)).filter(isOfTheLiving).map((name) => Number.parseInt(name, 10));
}

function isOfTheLiving(name: string): boolean {
  const owner = ownerOf(name);
  return owner !== undefined && isAlive(owner);
}

function ownerOf(name: string): ProcessIdentity | undefined {
  const [, pid, started, bootId, pidNamespace, sign] =
    /^\d+-(\d+)-(\d+)-([^.]+)(?:\.(\d+)(?:\.(.+))?)?$/.exec(name) ?? [];
  if (pid === undefined || started === undefined || bootId === undefined) return undefined;
  return { pid: Number(pid), started, bootId, pidNamespace, sign };
}
