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
  ['a capacity of half a processor', 'worker:\n  capacity: {cpus: 0.5}\n', /a\.yaml: worker\.capacity\.cpus: .*whole/],
  ['a capacity in words', 'worker:\n  capacity: {memory: 8G}\n', /a\.yaml: worker\.capacity\.memory: .*number/],
  ['a capacity of something else', 'worker:\n  capacity: {gpus: 1}\n', /a\.yaml: worker\.capacity: .*gpus/],
  ['no processor', 'sizes:\n  l: {cpus: 0}\n', /a\.yaml: sizes\.l\.cpus: expected 1 or more/],
  ['less than no memory', 'sizes:\n  l: {memory: -1}\n', /a\.yaml: sizes\.l\.memory: expected 0 or more/],
  ['an unknown size', 'sizes:\n  xxl: {cpus: 64}\n', /a\.yaml: sizes: .*xxl/],
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

test('docker: the daemon is that of DOCKER_HOST where it is here; no init runs unless it is asked for', async () => {
  expect(load().docker).toEqual({ socket: '/var/run/docker.sock', init: false });
  expect(load({ DOCKER_HOST: 'unix:///here' }).docker.socket).toBe('/here');
  expect(load({ DOCKER_HOST: 'tcp://there' }).docker.socket).toBe('/var/run/docker.sock');
  await write('docker: {socket: /file, network: host, init: true}\n');
  expect(load({ DOCKER_HOST: 'unix:///here' }).docker).toEqual({ socket: '/file', network: 'host', init: true });
  expect(load({ GOLDBED_DOCKER_INIT: '0', GOLDBED_DOCKER_SOCKET: '/env' }).docker).toMatchObject({
    socket: '/env',
    init: false,
  });
  await write('docker: {init: maybe}\n');
  expect(() => load()).toThrow(/a\.yaml: docker\.init: .*boolean/);
});

test('sizes may be changed in part, and by several files; each is twice the one before by default', async () => {
  const { s, m, l, xl } = load().sizes;
  expect(s).toEqual({ cpus: 1, memory: 2048, disk: 8192 });
  for (const [one, next] of [
    [s, m],
    [m, l],
    [l, xl],
  ] as const) {
    expect(next).toEqual({ cpus: one.cpus * 2, memory: one.memory * 2, disk: one.disk * 2 });
  }
  await write('sizes:\n  xl: {cpus: 16, memory: 65536}\n');
  await writeFile(path.join(home, 'goldbed/b.yaml'), 'sizes:\n  xl: {memory: 32768}\n  s: {disk: 0}\n');
  expect(load().sizes).toMatchObject({ xl: { cpus: 16, memory: 32_768, disk: xl.disk }, s: { ...s, disk: 0 }, m });
});

test('a capacity of a file wins over slots of a file, and slots of the environment over both', async () => {
  await write('worker:\n  slots: 3\n  capacity: {cpus: 8}\n');
  expect(load().worker).toMatchObject({ slots: 3, capacity: { cpus: 8 } });
  expect(load({ GOLDBED_SLOTS: '5' }).worker).toMatchObject({ slots: 5 });
  expect(load({ GOLDBED_SLOTS: '5' }).worker).not.toHaveProperty('capacity');
});
