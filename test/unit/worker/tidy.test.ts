import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { putFile, takeFile } from '../../../src/artifacts/store.ts';
import { check } from '../../../src/exec/run.ts';
import { tidy } from '../../../src/worker/tidy.ts';

const day = 86_400_000;
let root: string;
let jobs: string;
let artifacts: string;
let said: string[];
const log = (line: string): void => void said.push(line);
beforeEach(async () => {
  said = [];
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
  expect(await tidy({ jobs, artifacts }, 30 * day, log)).toEqual({ runs: 1, inputs: 0 });
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
    expect(await tidy({ jobs, artifacts }, keep * day, log)).toEqual({ runs: 0, inputs: keep === 30 ? 2 : 0 });
  }
  await age(artifacts, 59);
  expect(await tidy({ jobs, artifacts }, day, log)).toEqual({ runs: 0, inputs: 0 });
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
  expect(await tidy({ jobs, artifacts }, 30 * day, log)).toEqual({ runs: 0, inputs: 0 });
});

test('a host that never had a job has nothing to tidy', async () => {
  expect(await tidy({ jobs, artifacts }, 0, log)).toEqual({ runs: 0, inputs: 0 });
});

test('what a package has left deeper than a path may be long, and closed to its owner, goes with the rest', async () => {
  await run('b1', 31);
  await run('b2', 31);
  const script =
    'cd "$1/1/artifacts" && for i in $(seq 50); do mkdir "$2" && cd -P "$2" || exit 1; done; touch file; chmod 500 .';
  await check(['/bin/bash', '-c', script, 'sh', path.join(jobs, 'b1'), 'x'.repeat(200)]);
  await age(path.join(jobs, 'b2'), 31);
  await check(['/bin/bash', '-c', 'cd "$1" && touch -d "40 days ago" . 1 1/*', 'sh', path.join(jobs, 'b1')]);
  expect(await tidy({ jobs, artifacts }, 30 * day, log)).toEqual({ runs: 2, inputs: 0 });
  expect([await readdir(jobs), said]).toEqual([[], []]);
});
