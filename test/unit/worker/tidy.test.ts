import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { putFile, takeFile } from '../../../src/artifacts/store.ts';
import { tidy } from '../../../src/worker/tidy.ts';

const day = 86_400_000;
let root: string;
let jobs: string;
let artifacts: string;
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'goldbed-tidy-'));
  [jobs, artifacts] = [path.join(root, 'jobs'), path.join(root, 'artifacts')];
});
afterEach(() => rm(root, { recursive: true, force: true }));

/** Makes everything in the folder, and itself, so many days old. */
async function age(folder: string, days: number): Promise<void> {
  const time = new Date(Date.now() - days * day);
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) await age(path.join(folder, entry.name), days);
    else await utimes(path.join(folder, entry.name), time, time);
  }
  await utimes(folder, time, time);
}

async function run(id: string, days: number): Promise<void> {
  await mkdir(path.join(jobs, id, '1', 'artifacts'), { recursive: true });
  await writeFile(path.join(jobs, id, '1', 'log'), 'said');
  await age(path.join(jobs, id), days);
}

test('the files of old jobs go; those of a job that still writes stay', async () => {
  await run('b1', 31);
  await run('b2', 29);
  await run('b3', 31);
  await writeFile(path.join(jobs, 'b3', '1', 'log'), 'still at it');
  expect(await tidy({ jobs, artifacts }, 30 * day)).toEqual({ runs: 1, inputs: 0 });
  expect((await readdir(jobs)).toSorted()).toEqual(['b2', 'b3']);
});

test('inputs go when no job has used them for twice as long; dead drafts go the next day', async () => {
  const source = path.join(root, 'source');
  const stored: string[] = [];
  for (const content of ['old', 'used', 'new']) {
    await writeFile(source, content);
    stored.push((await putFile(artifacts, source)).sha256);
  }
  await writeFile(path.join(artifacts, '.draft-dead'), 'half');
  await age(artifacts, 61);
  await takeFile(artifacts, stored[1] ?? '', path.join(root, 'taken'));
  await putFile(artifacts, source); // handed in again
  for (const keep of [30, 1]) {
    // one that keeps the files of jobs for a day must not take the inputs of those that still wait
    expect(await tidy({ jobs, artifacts }, keep * day)).toEqual({ runs: 0, inputs: keep === 30 ? 2 : 0 });
  }
  await age(artifacts, 59);
  expect(await tidy({ jobs, artifacts }, day)).toEqual({ runs: 0, inputs: 0 });
  expect((await readdir(artifacts)).toSorted()).toEqual(stored.slice(1).toSorted());
});

test('a host whose clock is behind makes no input look old', async () => {
  const source = path.join(root, 'source');
  await writeFile(source, 'waited for');
  const { sha256 } = await putFile(artifacts, source);
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - 400 * day });
  try {
    await takeFile(artifacts, sha256, path.join(root, 'taken'));
  } finally {
    vi.useRealTimers();
  }
  expect(await tidy({ jobs, artifacts }, 30 * day)).toEqual({ runs: 0, inputs: 0 });
});

test('a host that never had a job has nothing to tidy', async () => {
  expect(await tidy({ jobs, artifacts }, 0)).toEqual({ runs: 0, inputs: 0 });
});
