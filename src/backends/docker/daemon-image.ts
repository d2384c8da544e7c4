/** Our images in the daemon, by tag: how they are named and what all of them say, whether one is there, and removing it. */
import type Docker from 'dockerode';
import { statusOf } from './client.ts';

/** Changes whenever a generation becomes another image than before. */
export const repository = 'goldbed-2';

/** A container has to have one; nothing of ours uses this. */
export const command = ['/bin/sh'];

/** What an image is made with, as a Dockerfile says it. */
export const settings = ['LABEL goldbed.image=1', `CMD ${JSON.stringify(command)}`];

/** Of the image of a published generation. @param digest `sha256:...` */
export function tagOf(digest: string): string {
  return digest.replace(/^sha256:/, '');
}

export function referenceOf(tag: string): string {
  return `${repository}:${tag}`;
}

export async function exists(docker: Docker, tag: string): Promise<boolean> {
  try {
    await docker.getImage(referenceOf(tag)).inspect();
    return true;
  } catch (error) {
    if (statusOf(error) === 404) return false;
    throw error;
  }
}

/** Fine when there is none. */
export async function removeImage(docker: Docker, tag: string): Promise<void> {
  try {
    await docker.getImage(referenceOf(tag)).remove({ force: true });
  } catch (error) {
    if (statusOf(error) !== 404) throw error;
  }
}
