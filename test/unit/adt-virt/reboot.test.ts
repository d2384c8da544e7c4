/** The reboot verb over a pretended machine, a folder whose /tmp and /run are lost: what is on disk when, and what is back. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { startInProcess } from '../../../src/protocol/adt-virt/pair.ts';
import type { Testbed, TestbedSource } from '../../../src/protocol/testbed.ts';
import { Asking } from './fixtures/asking.ts';

let root: string;
let said: string[];
/** At each reboot: who did it, whether the mark of a prepared one was still there, and what was saved. */
let seen: { who: string; mark: boolean; saved: string[] }[];
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'goldbed-reboot-'));
  for (const folder of ['tmp', 'run', 'var/cache']) mkdirSync(path.join(root, folder), { recursive: true });
  [said, seen] = [[], []];
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(root, { recursive: true });
});

const mark = (): string => path.join(root, 'run/autopkgtest-reboot-prepare-mark');
/** Commands see the folder as their root, as far as it is /tmp, /run or /var/cache. */
const rebase = 'my $r = shift; s{(?<![\\w.])/(tmp|run|var/cache)/}{$r/$1/}g for @ARGV; exec { $ARGV[0] } @ARGV';

const machine = (parts: Partial<Testbed> = {}, source: Partial<TestbedSource> = {}): Asking => {
  const testbed: Testbed = {
    auxverb: ['/usr/bin/perl', '-e', rebase, root],
    traits: ['isolation-machine', 'revert-full-system'],
    async reboot(who) {
      const saved = readdirSync(path.join(root, 'var/cache'));
      seen.push({ who, mark: existsSync(mark()), saved });
      for (const folder of ['tmp', 'run']) {
        rmSync(path.join(root, folder), { recursive: true });
        mkdirSync(path.join(root, folder));
      }
    },
    async revert() {},
    async [Symbol.asyncDispose]() {},
    ...parts,
  };
  const served = { name: 'machine', traits: testbed.traits, revert: true, reboot: true, open: async () => testbed };
  const options = { copyTimeout: 0, log: (line: string) => void said.push(line), signal: new AbortController().signal };
  return new Asking(startInProcess({ ...served, ...source }, options));
};

test.each([
  ['reboot', 'server'],
  ['reboot prepare-only', 'testbed'],
  ['reboot whatever', 'server'], // an unknown word is as none
])('%s: `ok` and nothing else, by the %s; the scratch directory is back as it was', async (command, who) => {
  const wire = machine();
  const scratch = (await wire.ask('open')).slice(3);
  const inside = path.join(root, scratch);
  mkdirSync(path.join(inside, 'tree'));
  writeFileSync(path.join(inside, 'tree/program'), 'content', { mode: 0o750 });
  execFileSync('/bin/ln', ['-s', 'nowhere', path.join(inside, 'link')]);
  writeFileSync(mark(), '');
  expect(await wire.ask(command)).toBe('ok');
  expect(seen).toEqual([{ who, mark: false, saved: ['goldbed-scratch.tar'] }]);
  expect(readFileSync(path.join(inside, 'tree/program'), 'utf8')).toBe('content');
  const look = ['-c', '%a %N', inside, path.join(inside, 'tree/program'), path.join(inside, 'link')];
  expect(execFileSync('/usr/bin/stat', look, { encoding: 'utf8' }).replaceAll(inside, 'S')).toBe(
    "777 'S'\n750 'S/tree/program'\n777 'S/link' -> 'nowhere'\n",
  );
  expect(readdirSync(path.join(root, 'var/cache'))).toEqual([]);
  expect(await wire.ask('capabilities')).toBe('ok isolation-machine revert-full-system revert reboot');
  expect(await wire.quit()).toBe(0);
});

test('one that does not come up again: no reply, closed, 16', async () => {
  let closed = 0;
  const wire = machine({
    reboot: () => Promise.reject(new Error('no boot device')),
    [Symbol.asyncDispose]: async () => void closed++,
  });
  await wire.ask('open');
  expect(await wire.ask('reboot')).toBe('(end)');
  expect([await wire.exit(), closed]).toEqual([16, 1]);
  expect(said).toEqual(['goldbed-virt: unexpected error: no boot device']);
});

test('a system that hangs while its scratch directory is saved does not hold up the server', async () => {
  const hung = path.join(root, 'hung');
  const auxverb = ['/bin/sh', '-c', 'test ! -e "$0" || exec sleep 1000; exec "$@"', hung] as const;
  let closed = 0;
  const wire = machine({ auxverb, [Symbol.asyncDispose]: async () => void closed++ });
  const scratch = (await wire.ask('open')).slice(3);
  writeFileSync(hung, '');
  const limits = vi.spyOn(AbortSignal, 'timeout').mockReturnValue(AbortSignal.timeout(100));
  expect(await wire.ask('reboot')).toBe('(end)');
  expect([await wire.exit(), closed, seen]).toEqual([16, 1, []]);
  expect(limits).toHaveBeenCalledWith(600_000);
  expect(said).toEqual(['goldbed-virt: unexpected error: /bin/sh has not ended within 600 s']);
  rmSync(scratch, { recursive: true });
});
