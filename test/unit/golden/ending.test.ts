/** Why an image was not refreshed: noted by every kind of writer, with evidence, until something makes it untrue. */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import type { Backend } from '../../../src/backends/backend.ts';
import { replaceImage } from '../../../src/golden/create.ts';
import { driftOf } from '../../../src/golden/drift.ts';
import { noteEnding } from '../../../src/golden/ending.ts';
import { failedCandidates } from '../../../src/golden/failed.ts';
import { importImage } from '../../../src/golden/import.ts';
import { layoutOf } from '../../../src/golden/layout.ts';
import { localLeases } from '../../../src/golden/local-lease.ts';
import { noteUpdate, readLooked } from '../../../src/golden/looked.ts';
import { newGeneration, type CreateTools, type FillRoot } from '../../../src/golden/new-generation.ts';
import { quarantine } from '../../../src/golden/quarantine.ts';
import { rollBack } from '../../../src/golden/roll-back.ts';
import { imageNames, readHead } from '../../../src/golden/store.ts';
import { GoldenRefusal } from '../../../src/protocol/testbed.ts';
import { verifyInside } from '../../../src/golden/verify.ts';
import { details, never, publishFiles, temporaryState, type TemporaryState } from './fixtures/images.ts';

const who = { by: 'nightly', job: 'b7f3' };
const failure = { status: 'failed' as const, step: 'update', reason: 'the mirror is away' };

/** A backend whose testbed is a script: it gets the command, and says what dpkg or apt would. */
async function pretendBackend(state: TemporaryState, script: string): Promise<Backend> {
  const file = path.join(state.root, 'pretend');
  await mkdir(state.root, { recursive: true });
  await writeFile(file, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return {
    name: 'overlay',
    traits: [],
    revert: false,
    reboot: false,
    unavailable: async () => undefined,
    open: async () => ({ auxverb: [file], traits: [], async [Symbol.asyncDispose]() {} }),
    reap: async () => [],
  };
}

function tools(state: TemporaryState, more: Partial<CreateTools> = {}): CreateTools {
  const leases = localLeases(state, { by: 'nightly', wait: 0 });
  return { store: state, leases, sessionId: 'x', ...who, progress: () => {}, ...more };
}

const whole: FillRoot = async (candidate, progress) => {
  progress('unpacking');
  await writeFile(path.join(candidate.layerDirectory, 'file'), 'new');
  return { recipe: details.recipe, manifest: details.manifest, sources: [], verified: ['dpkg --audit'] };
};

test.for([
  ['a new generation', (state: TemporaryState) => publishFiles(state, 'sid', { three: '' })],
  ['a rollback', (state: TemporaryState) => rollBack(state, 'sid', 1)],
  ['a quarantine', (state: TemporaryState) => quarantine(state, 'sid', { generation: 2, by: 'me', reason: 'bad' })],
] as const)('a failure counts no more after %s', async ([, action]) => {
  await using state = await temporaryState();
  await publishFiles(state, 'sid', { one: '' });
  await publishFiles(state, 'sid', { two: '' });
  const layout = layoutOf(state, 'sid');
  await noteUpdate(state, 'sid', { status: 'unchanged', generation: 2 }, who);
  await noteUpdate(state, 'sid', failure, who);
  await action(state);
  const looked = await readLooked(layout);
  expect([looked.failed, looked.unchanged?.generation]).toEqual([undefined, 2]);
});

test('a note that cannot be made is told, and changes nothing', async () => {
  await using state = await temporaryState();
  await publishFiles(state, 'sid', { one: '' });
  await mkdir(layoutOf(state, 'sid').looked); // in the way of the file
  const complaints: string[] = [];
  const attempt = { store: state, image: 'sid', base: 1, ...who };
  await noteEnding(attempt, { status: 'unchanged' }, (line) => complaints.push(line));
  await noteEnding(attempt, { ...failure, log: '', manifest: '' }, (line) => complaints.push(line));
  expect(complaints).toEqual(
    Array(2).fill(expect.stringMatching(/how the update of sid ended cannot be noted: EISDIR/)),
  );
  expect(await publishFiles(state, 'sid', { two: '' })).toMatchObject({ generation: 2 });
  await rollBack(state, 'sid', 1);
});

test.for<[string, string, string, Partial<CreateTools>, FillRoot]>([
  ['bootstrapping', 'bootstrap', 'no such mirror', {}, async () => Promise.reject(new Error('no such mirror'))],
  ['the fresh session', 'verify', 'fresh session fails on the new generation: exit 1', {}, whole],
  [
    'the canary',
    'canary',
    'build of hello failed',
    {
      check: async () => Promise.reject(new GoldenRefusal('commit-failed', 'canary: build of hello failed')),
    },
    whole,
  ],
])('a replacement that fails in %s keeps the step, the reason, the log and the packages', async (given) => {
  const [, step, reason, more, fillRoot] = given;
  await using state = await temporaryState();
  await publishFiles(state, 'sid', { one: '' });
  const backend = await pretendBackend(state, step === 'verify' ? 'exit 1' : 'exit 0');
  await expect(newGeneration('sid', 'replace', tools(state, { backend, ...more }), fillRoot, never)).rejects.toThrow(
    reason,
  );
  const layout = layoutOf(state, 'sid');
  expect((await readLooked(layout)).failed).toMatchObject({ ...who, step, reason });
  const [evidence] = await failedCandidates(layout);
  expect(evidence).toMatchObject({ ...who, base: 1, step, reason });
  expect(await readFile(path.join(evidence?.folder ?? '', 'log'), 'utf8')).toContain(`goldbed: ${step}: `);
  if (step !== 'bootstrap') {
    expect(await readFile(path.join(evidence?.folder ?? '', 'log'), 'utf8')).toContain('unpacking\n');
    expect(await readFile(path.join(evidence?.folder ?? '', 'manifest.tsv'), 'utf8')).toBe(details.manifest);
  }
  expect((await readHead(state, 'sid')).generation).toBe(1);
});

test('what was cancelled, what another writer changed, and an image that never was are no failures', async () => {
  await using state = await temporaryState();
  await publishFiles(state, 'sid', { one: '' });
  const layout = layoutOf(state, 'sid');
  const stop = new AbortController();
  const cancelled: FillRoot = async (...asked) => {
    stop.abort(new Error('cancelled'));
    asked[2].throwIfAborted();
    return whole(...asked);
  };
  await expect(newGeneration('sid', 'replace', tools(state), cancelled, stop.signal)).rejects.toThrow('cancelled');
  const overtaken: FillRoot = async (...asked) => {
    await rm(asked[0].directory, { recursive: true });
    await publishFiles(state, 'sid', { two: '' });
    return whole(...asked);
  };
  const late = newGeneration('sid', 'replace', tools(state), overtaken, never);
  await expect(late).rejects.toMatchObject({ word: 'golden-changed' });
  expect([(await readLooked(layout)).failed, await failedCandidates(layout)]).toEqual([undefined, []]);
  const failing: FillRoot = async () => Promise.reject(new Error('no such mirror'));
  await expect(newGeneration('new', 'create', tools(state), failing, never)).rejects.toThrow('no such mirror');
  expect(await imageNames(state)).toEqual(['sid']);
});

test('checks that are wanted and were not made are in the record, each with the reason', async () => {
  await using state = await temporaryState();
  const notRun = () => ['canary hello: not run (by this command)'];
  const backend = await pretendBackend(state, 'exit 0');
  const one = await newGeneration('sid', 'create', tools(state, { backend, notRun }), whole, never);
  expect(one.verified).toEqual(['dpkg --audit', 'fresh session', 'canary hello: not run (by this command)']);
  const two = await newGeneration('other', 'create', tools(state), whole, never);
  expect(two.verified).toEqual(['dpkg --audit', 'fresh session: not run (no backend)']);
});

test('an image without apt says so; one whose apt fails does not pass', async () => {
  await using state = await temporaryState();
  const inside = async (script: string): Promise<string[]> => {
    const { auxverb } = await (await pretendBackend(state, script)).open({ layers: [] }, { sessionId: 'x' }, never);
    return verifyInside(auxverb, never);
  };
  expect(await inside('exit 0')).toEqual(['dpkg --audit', 'apt-get check']);
  expect(await inside('case $1 in */apt-get) exit 127 ;; esac')).toEqual([
    'dpkg --audit',
    'apt-get check: not run (no apt in it)',
  ]);
  await expect(inside('case $1 in */apt-get) exit 100 ;; */test) exit 1 ;; esac')).rejects.toThrow(
    /apt-get check failed/,
  );
});

test('an import is verified like everything else, and cannot be made anew until somebody says how', async () => {
  await using state = await temporaryState();
  const root = path.join(state.root, 'foreign');
  await mkdir(path.join(root, 'var/lib/dpkg'), { recursive: true });
  await mkdir(path.join(root, 'usr/lib'), { recursive: true });
  await writeFile(path.join(root, 'usr/lib/os-release'), 'VERSION_CODENAME=sid\n');
  const status =
    'Package: dpkg\nStatus: install ok installed\nVersion: 1.22\nArchitecture: amd64\nMaintainer: x\nDescription: x\n';
  await writeFile(path.join(root, 'var/lib/dpkg/status'), status);
  const imported = (script: string) =>
    pretendBackend(state, script).then((backend) =>
      importImage({ name: 'old', from: root }, tools(state, { backend }), never),
    );
  await expect(imported('case $1 in */dpkg) echo "hello is half-configured" ;; esac')).rejects.toThrow(
    /dpkg --audit failed .*half-configured/,
  );
  expect(await imageNames(state)).toEqual([]);
  expect((await imported('exit 0')).verified).toEqual(['dpkg --audit', 'apt-get check', 'fresh session']);
  const how = /old was imported: what to bootstrap is not known; .* goldbed image replace old --variant buildd/;
  await expect(replaceImage('old', tools(state), never)).rejects.toThrow(how);
  await expect(driftOf(state, 'old', 'x', undefined, () => {}, never)).rejects.toThrow(how);
  expect((await readLooked(layoutOf(state, 'old'))).failed).toBeUndefined();
});
