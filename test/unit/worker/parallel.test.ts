/** What Debian's clients are told of a job's size: only where the request names one. */
import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { sizesOf } from '../../../src/config/sizes.ts';
import { buildRequestSchema, testRequestSchema } from '../../../src/protocol/job-request.ts';
import { runBuild } from '../../../src/worker/run-build.ts';
import type { JobContext } from '../../../src/worker/run-job.ts';
import { runTest } from '../../../src/worker/run-test.ts';
import { StepClock } from '../../../src/worker/stages.ts';

let folder: string;
let job: JobContext;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'goldbed-parallel-'));
  const client = path.join(folder, 'client');
  await writeFile(client, `#!/bin/sh\nfor word; do echo "$word"; done >${folder}/told\n`, { mode: 0o755 });
  const artifacts = path.join(folder, 'artifacts');
  await mkdir(artifacts);
  job = {
    host: { clients: { sbuild: client, autopkgtest: client }, sizes: sizesOf(), virtProgram: '/bin/false' },
    image: { suite: 'sid', arch: 'amd64', backend: 'overlay' },
    folder: { path: folder, artifacts, log: createWriteStream(path.join(folder, 'log')) },
    clock: new StepClock(),
    serve: async () => ({ socketPath: '/socket', verify: async () => {} }),
  } as unknown as JobContext;
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const signal = new AbortController().signal;
const archive = { type: 'archive', package: 'hello' };
const about = (size?: string) => ({ v: 1, image: 'sid', ...(size === undefined ? {} : { size }) });
const told = async (): Promise<string[]> => (await readFile(path.join(folder, 'told'), 'utf8')).trim().split('\n');

test.each([
  [undefined, []],
  ['m', ['--debbuildopt=-J2']],
  ['xl', ['--debbuildopt=-J8']],
])('sbuild, of size %s', async (size, words) => {
  await runBuild(buildRequestSchema.parse({ ...about(size), kind: 'build', source: archive }), job, signal);
  expect((await told()).filter((word) => /^--(jobs|debbuildopt)/.test(word))).toEqual(words);
  expect((await told()).slice(-2)).toEqual(['--', 'hello']);
});

test.each([
  [undefined, ['hello']],
  ['l', ['--build-parallel=4', 'hello']],
])('autopkgtest, of size %s', async (size, words) => {
  await runTest(testRequestSchema.parse({ ...about(size), kind: 'test', subject: archive }), job, signal);
  const all = await told();
  expect(all.slice(2, all.indexOf('--'))).toEqual(words);
});
