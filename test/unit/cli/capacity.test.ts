/** What a worker offers: as many slots as it is told, or what the configuration gives it of the host. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir, totalmem } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { workerCapacity } from '../../../src/cli/capacity.ts';
import type { Context } from '../../../src/cli/context.ts';
import { ConfigError } from '../../../src/config/config-error.ts';
import { loadSettings } from '../../../src/config/load.ts';
import { stateAt } from '../../../src/config/state.ts';
import { Ledger } from '../../../src/worker/ledger.ts';

let home: string;
beforeEach(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'goldbed-capacity-'));
  await mkdir(path.join(home, 'goldbed'));
});
afterEach(() => rm(home, { recursive: true, force: true }));

async function context(yaml: string): Promise<Context> {
  await writeFile(path.join(home, 'goldbed/a.yaml'), yaml);
  return { settings: loadSettings({ XDG_CONFIG_HOME: home }, 0), state: stateAt(home) };
}

test.each([
  ['nothing', '', undefined, 1],
  ['slots of a file', 'worker: {slots: 3}', undefined, 3],
  ['slots of the command line', 'worker: {slots: 3, capacity: {cpus: 64}}', 2, 2],
  ['slots, where m is larger', 'worker: {slots: 3}\nsizes: {m: {cpus: 7, memory: 100, disk: 9}}', undefined, 3],
])('%s: so many jobs of size m at a time', async (_, yaml, flag, slots) => {
  const told = await context(yaml);
  const ledger = new Ledger(await workerCapacity(told, flag), told.settings.sizes);
  expect(ledger.slots).toBe(slots);
  for (let i = 0; i < slots; i += 1) expect(ledger.reserve('m')).toBeDefined();
  expect(ledger).toMatchObject({ busy: slots, full: true });
});

test('what a capacity leaves out is what the host has', async () => {
  const all = await workerCapacity(
    await context('worker: {capacity: {}, minFreeDisk: 0}\nsizes: {s: {cpus: 1, memory: 1, disk: 0}}'),
  );
  expect(all).toMatchObject({ cpus: availableParallelism(), memory: Math.floor(totalmem() / 1024 / 1024) });
  expect(all.disk).toBeGreaterThan(0);
  const some = await workerCapacity(await context('worker: {capacity: {cpus: 3, disk: 100000}}'));
  expect(some).toEqual({ cpus: 3, memory: all.memory, disk: 100_000 });
});

test('one into which no job fits is a mistake', async () => {
  const small = await context('worker: {capacity: {cpus: 1, memory: 512, disk: 100000}}');
  await expect(workerCapacity(small)).rejects.toThrow(ConfigError);
  await expect(workerCapacity(small)).rejects.toThrow(
    'worker.capacity: expected room for a job of some size, found 1 cpu, 512 MB of memory, 100000 MB of disk; ' +
      'size s takes 1 cpu, 2048 MB of memory, 8192 MB of disk',
  );
});
