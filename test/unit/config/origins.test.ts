/** Which file, variable or default a setting comes from. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { loadSettings } from '../../../src/config/load.ts';
import { settingsWithOrigins } from '../../../src/config/origins.ts';

let home: string;
beforeEach(() => {
  home = mkdtempSync(path.join(tmpdir(), 'goldbed-origins-'));
  mkdirSync(path.join(home, 'goldbed'));
});
afterEach(() => rmSync(home, { recursive: true }));

const write = (name: string, text: string): string => {
  const file = path.join(home, 'goldbed', name);
  writeFileSync(file, text);
  return file;
};
const found = (more: NodeJS.ProcessEnv = {}): Map<string, [unknown, string]> => {
  const env = { XDG_CONFIG_HOME: home, HOME: home, ...more };
  const all = settingsWithOrigins(loadSettings(env, 0), env);
  return new Map(all.map(({ key, value, origin }) => [key, [value, origin]]));
};

test('the later file counts, the environment more than all, and the rest is the default', () => {
  const first = write('a.yaml', 'worker: { slots: 3, name: bay1 }\nimages: { policy: { sid: { maxAge: 12h } } }\n');
  const second = write('b.yaml', 'worker: { slots: 4 }\njobs: { keep: 1d }\n');
  const settings = found({ GOLDBED_HOST: 'bay2' });
  expect(settings.get('worker.slots')).toEqual([4, second]);
  expect(settings.get('worker.name')).toEqual(['bay2', 'GOLDBED_HOST']);
  expect(settings.get('images.policy.sid.maxAge')).toEqual([43_200, first]);
  expect(settings.get('jobs.keep')).toEqual([86_400, second]);
  expect(settings.get('fleet.heartbeat')).toEqual([10, 'default']);
  expect(settings.has('redis.url')).toBe(false);
});

test('the socket of DOCKER_HOST is told as that', () => {
  const env = { DOCKER_HOST: 'unix:///run/user/1000/docker.sock' };
  expect(found(env).get('docker.socket')).toEqual(['/run/user/1000/docker.sock', 'DOCKER_HOST']);
  const file = write('a.yaml', 'docker: { socket: /run/x.sock }\n');
  expect(found(env).get('docker.socket')).toEqual(['/run/x.sock', file]);
});

test('every variable of the README is known', () => {
  const readme = readFileSync('README.md', 'utf8');
  const rows = [...readme.matchAll(/^\| `(GOLDBED_\w+)` \| `([\w.]+)` \|/gm)];
  expect(rows.length).toBeGreaterThan(5);
  const values: Record<string, string> = {
    GOLDBED_ALLOW_UNSAFE_REDIS: '1',
    GOLDBED_SLOTS: '2',
    GOLDBED_DOCKER_INIT: '1',
  };
  for (const [, variable = '', key = ''] of rows)
    expect(found({ [variable]: values[variable] ?? '12' }).get(key)?.[1]).toBe(variable);
});
