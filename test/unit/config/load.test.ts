/** Settings: who wins, and what a wrong file says. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ConfigError } from '../../../src/config/config-error.ts';
import { loadSettings, type Settings } from '../../../src/config/load.ts';

let home: string;
beforeEach(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'goldbed-config-'));
  await mkdir(path.join(home, 'goldbed'));
});
afterEach(() => rm(home, { recursive: true, force: true }));

const load = (env: Record<string, string> = {}): Settings => loadSettings({ XDG_CONFIG_HOME: home, ...env }, 0);
const write = (text: string): Promise<void> => writeFile(path.join(home, 'goldbed/a.yaml'), text);

test('defaults need no file', () => {
  expect(load()).toMatchObject({
    state: '/var/lib/goldbed',
    worker: { slots: 1 },
    redis: { url: undefined, allowUnsafe: false },
  });
  expect(loadSettings({ XDG_CONFIG_HOME: home, XDG_STATE_HOME: '/s' }, 1000).state).toBe('/s/goldbed');
});

test('the environment wins over the file', async () => {
  await write('state: /from/file\nworker:\n  slots: 3\nredis:\n  url: redis://one\n');
  expect(load()).toMatchObject({ state: '/from/file', worker: { slots: 3 }, redis: { url: 'redis://one' } });
  const env = { GOLDBED_STATE: '/from/env', GOLDBED_SLOTS: '5', GOLDBED_REDIS_URL: 'redis://two' };
  expect(load(env)).toMatchObject({ state: '/from/env', worker: { slots: 5 }, redis: { url: 'redis://two' } });
});

const wrong: [string, string, RegExp][] = [
  ['an unknown key', 'worker:\n  slot: 3\n', /a\.yaml: worker: .*slot/],
  ['a wrong type', 'worker:\n  slots: many\n', /a\.yaml: worker\.slots: .*number/],
  ['a relative path', 'state: here\n', /a\.yaml: state: expected an absolute path/],
  ['no YAML', 'state: [\n', /a\.yaml: not valid YAML/],
];
test.each(wrong)('%s names file and key', async (_, text, message) => {
  await write(text);
  expect(() => load()).toThrow(ConfigError);
  expect(() => load()).toThrow(message);
});

test('a wrong variable names itself', () => {
  expect(() => load({ GOLDBED_SLOTS: 'x' })).toThrow(/GOLDBED_SLOTS: expected a whole number, found "x"/);
  expect(() => load({ GOLDBED_ALLOW_UNSAFE_REDIS: 'yes' })).toThrow(/expected 0 or 1/);
});
