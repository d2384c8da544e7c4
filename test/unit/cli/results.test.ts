/** Where the files of a job are: an id comes from content, so that a folder of its name may be another queue's. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Context } from '../../../src/cli/context.ts';
import { fetchResults, makeOutput, resultFolder } from '../../../src/cli/results.ts';
import { loadSettings } from '../../../src/config/load.ts';
import { stateAt } from '../../../src/config/state.ts';
import { outcomeSchema, type Outcome } from '../../../src/protocol/outcome.ts';

let root: string;
let here: Context;
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'goldbed-results-'));
  here = { settings: loadSettings({ XDG_CONFIG_HOME: root, GOLDBED_HOST: 'bay1' }, 0), state: stateAt(root) };
});
afterEach(() => rm(root, { recursive: true, force: true }));

const outcome = (more: Partial<Outcome> = {}): Outcome =>
  outcomeSchema.parse({
    ...{ v: 1, result: { kind: 'build', exitCode: 0, status: 'successful' }, backend: 'overlay', host: 'bay1' },
    ...{ attempt: 1, steps: [{ name: 'build', seconds: 7 }], artifacts: ['a.deb'], ...more },
  });

async function attempt(number: number, recorded?: Outcome): Promise<string> {
  const folder = path.join(root, 'jobs', 'b1', String(number));
  await mkdir(path.join(folder, 'artifacts'), { recursive: true });
  await writeFile(path.join(folder, 'artifacts/a.deb'), 'a package');
  await writeFile(path.join(folder, 'log'), 'said');
  if (recorded !== undefined) await writeFile(path.join(folder, 'result.json'), JSON.stringify(recorded));
  return folder;
}

const folderOf = (counts?: Outcome): Promise<string | undefined> =>
  resultFolder(here, { id: 'b1', ...(counts === undefined ? {} : { outcome: counts }) });

test('it is the attempt whose outcome counts; without one the last', async () => {
  expect(await folderOf()).toBeUndefined();
  const first = await attempt(1, outcome());
  const second = await attempt(2);
  expect(await folderOf()).toBe(second);
  expect(await folderOf(outcome())).toBe(first);
  expect(await folderOf(outcome({ attempt: 3 }))).toBeUndefined();
});

test('one of another queue, or of another host, is not it', async () => {
  await attempt(1, outcome());
  expect(await folderOf(outcome({ host: 'bay2' }))).toBeUndefined();
  expect(await folderOf(outcome({ steps: [{ name: 'build', seconds: 8 }] }))).toBeUndefined();
});

test('where a full disk has kept it from being written down, the host tells', async () => {
  const folder = await attempt(1);
  expect(await folderOf(outcome())).toBe(folder);
  expect(await folderOf(outcome({ host: 'bay2' }))).toBeUndefined();
});

test('they are copied into a folder that is made; what is none is told before anything is begun', async () => {
  const [target, file] = [path.join(root, 'out/deep'), path.join(root, 'file')];
  await makeOutput(target);
  await fetchResults(await attempt(1, outcome()), target);
  expect(await readFile(path.join(target, 'a.deb'), 'utf8')).toBe('a package');
  await writeFile(file, '');
  await expect(makeOutput(file)).rejects.toThrow(`${file}: expected a folder that can be written (EEXIST`);
  await expect(makeOutput(path.join(file, 'below'))).rejects.toThrow('below: expected a folder');
});
