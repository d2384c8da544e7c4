/** `goldbed image gc`, over many images at a time. */
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { main } from '../../../src/cli/main.ts';
import { publishFiles, temporaryState, type TemporaryState } from '../golden/fixtures/images.ts';

let state: TemporaryState;
let said: string[];
const warned = ({ message }: Error): void => void said.push(message);
beforeEach(async () => {
  said = [];
  state = await temporaryState();
});
afterEach(async () => {
  vi.restoreAllMocks();
  process.off('warning', warned);
  await state[Symbol.asyncDispose]();
});

test('takes away what backends have made of what it removes, and says nothing of listeners', async () => {
  const details = { strategy: 'replace' } as const;
  const images = Array.from({ length: 11 }, (_, index) => `image${index}`);
  for (const image of images) {
    for (const marker of ['old', 'new']) await publishFiles(state, image, { marker }, { details });
  }
  const [disks] = await Promise.all(['1', '2'].map((generation) => diskOf('image3', generation)));
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => said.push(String(text)) > 0);
  process.on('warning', warned);
  expect(await main(['--state', state.root, 'image', 'gc', '--keep', '1'])).toBe(0);
  expect(said.join('').trim().split('\n').toSorted()).toEqual(images.map((image) => `${image}: removed 1`).toSorted());
  expect(['1', '2'].map((generation) => existsSync(path.join(disks ?? '', generation)))).toEqual([false, true]);
});

/** As the qemu backend keeps it. @returns the folder of all of them */
async function diskOf(image: string, generation: string): Promise<string> {
  const disks = path.join(state.backends, 'qemu');
  await mkdir(path.join(disks, generation), { recursive: true });
  const layer = path.join(state.images, image, 'generations', generation, 'layer');
  await writeFile(path.join(disks, generation, 'layers'), layer);
  return disks;
}
