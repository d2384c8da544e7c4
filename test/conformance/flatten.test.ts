/** Who flattens a deep stack: a worker that starts, and one that has published; nobody waits for it. */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt, type State } from '../../src/config/state.ts';
import { emptyTrash } from '../../src/exec/trash.ts';
import { flattenFrom } from '../../src/golden/flatten-current.ts';
import { layoutOf } from '../../src/golden/layout.ts';
import { contentOf } from '../../src/golden/stack.ts';
import { readHead } from '../../src/golden/store.ts';
import { publishFiles } from '../unit/golden/fixtures/images.ts';
import { testCache } from './fixtures/base-image.ts';
import { baseRoot, Goldbed } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';

const unavailable = await overlayBackend(stateAt('/nonexistent')).unavailable();

describeWith('overlay', unavailable, 'a deep stack', () => {
  let goldbed: Goldbed;
  let state: State;
  const opened = async (image: string): Promise<string[]> => {
    const layout = layoutOf(state, image);
    const { layers } = contentOf(layout, await readHead(state, image));
    return layers.map((layer) => path.relative(layout.generations, layer));
  };
  const publish = async (image: string, from: number, to: number): Promise<void> => {
    for (let n = from; n <= to; n += 1) await publishFiles(state, image, { [`root/mark${n}`]: '' });
  };

  beforeEach(async () => {
    goldbed = new Goldbed(await mkdtemp(path.join(testCache(), 'flatten-')));
    state = stateAt(goldbed.state);
  });
  afterEach(async () => {
    await emptyTrash(state.trash, { wait: true });
    await rm(goldbed.state, { recursive: true, force: true });
  });

  test('is flattened by the worker that published it, after the job has ended', async () => {
    const made = await goldbed.run('image', 'import', 'deep', await baseRoot());
    expect(made.code, made.stderr).toBe(0);
    await publish('deep', 2, flattenFrom - 1);
    const worker = await goldbed.startWorker();
    const updated = await goldbed.run('image', 'update', 'deep', '--wait'); // the lists are new to it
    expect(updated.stdout, updated.stderr).toContain('published');
    await worker.saw(/^goldbed: deep@5: 5 layers flattened$/);
    expect(await opened('deep')).toEqual(['5/flat/layer']);
    expect((await goldbed.run('image', 'verify', 'deep')).stdout).toMatch(/^deep@5 is sha256:/);
    worker.child.kill('SIGTERM');
    await once(worker.child, 'exit');
  });

  test('is flattened by a worker that starts, when nobody had', async () => {
    await publish('toy', 1, flattenFrom);
    await publish('shallow', 1, flattenFrom - 1);
    const worker = await goldbed.startWorker();
    await worker.saw(/^goldbed: toy@5: 5 layers flattened$/);
    expect(await opened('toy')).toEqual(['5/flat/layer']);
    expect(await opened('shallow')).toHaveLength(flattenFrom - 1);
    worker.child.kill('SIGTERM');
    await once(worker.child, 'exit');
  });
});
