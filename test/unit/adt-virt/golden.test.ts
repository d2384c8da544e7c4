/** The golden verbs at wire level (docs/golden-verb.md): every word but `commit-golden` discards. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readlink, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startInProcess } from '../../../src/protocol/adt-virt/pair.ts';
import { decodeArgv } from '../../../src/protocol/adt-virt/words.ts';
import type { GoldenTestbed, TestbedSource } from '../../../src/protocol/testbed.ts';
import { createDirectoryImage, directoryGoldenSource } from './fixtures/directory-golden-source.ts';
import { Asking } from './fixtures/asking.ts';

let root: string;
let said: string[];
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'goldbed-golden-'));
  await createDirectoryImage(root);
  said = [];
});
afterEach(() => rm(root, { recursive: true }));

const start = (source: TestbedSource = directoryGoldenSource(root)): Asking => {
  const options = { copyTimeout: 0, log: (line: string) => void said.push(line), signal: new AbortController().signal };
  return new Asking(startInProcess(source, options));
};
const run = async (wire: Asking, ...command: string[]): Promise<void> => {
  const [program = '', ...args] = decodeArgv((await wire.ask('print-execute-command')).slice('ok '.length));
  execFileSync(program, [...args, ...command]);
};
/** Opens for writing and leaves a mark. @returns the reply of open-golden */
const mark = async (wire: Asking): Promise<string> => {
  const opened = await wire.ask('open-golden');
  await run(wire, '/bin/touch', 'm');
  return opened;
};
/** Nothing but the generations is left, and these files are in the current one. */
const image = async (): Promise<{ generation: string; files: string[] }> => {
  expect((await readdir(root)).filter((name) => !/^\d+$|^head$/.test(name))).toEqual([]);
  const generation = await readlink(path.join(root, 'head'));
  return { generation, files: await readdir(path.join(root, generation)) };
};
const original = { generation: '1', files: [] };
const marked = { generation: '2', files: ['m'] };

test('G1, G2: announced in every state, the id of what is open only while something is', async () => {
  const wire = start();
  expect(await wire.ask('capabilities')).toBe('ok revert-full-system revert golden-image');
  const expected = 'ok revert-full-system revert golden-image golden-image-id=directory%401';
  expect(await wire.ask('open')).toMatch(/^ok \/\S+$/);
  expect(await wire.ask('capabilities')).toBe(expected);
  expect(await wire.ask('close')).toBe('ok');
  expect(await wire.ask('capabilities')).toBe('ok revert-full-system revert golden-image');
  expect(await wire.ask('open-golden')).toMatch(/^ok \/\S+$/);
  expect(await wire.ask('capabilities')).toBe(expected);
  expect(await wire.ask('capabilities')).toBe(expected);
  expect(await wire.quit()).toBe(0);
});

test.each([
  ['G3: an argument', [], 'open-golden x'],
  ['G3: an argument of commit', ['open-golden'], 'commit-golden x'],
  ['G4: open, open-golden', ['open'], 'open-golden'],
  ['G4: open-golden, open', ['open-golden'], 'open'],
  ['G4: open-golden twice', ['open-golden'], 'open-golden'],
  ['G5: commit while closed', [], 'commit-golden'],
  ['G5: commit after open', ['open'], 'commit-golden'],
  ['G12: an unknown verb', ['open-golden'], 'frobnicate'],
])('%s: exit 12, nothing is written', async (_, before, wrong) => {
  const wire = start();
  for (const command of before) expect(await wire.ask(command)).toMatch(/^ok \//);
  if (before.includes('open-golden')) await run(wire, '/bin/touch', 'm');
  expect(await wire.ask(wrong)).toBe('(end)');
  expect(await wire.exit()).toBe(12);
  expect(said.join()).toContain('failure:');
  expect(await image()).toEqual(original);
});

test('G6, G14, G15: a commit is there for the next open, has closed the testbed, and has another id', async () => {
  const wire = start();
  const scratch = await mark(wire);
  expect(await wire.ask('commit-golden')).toBe('ok');
  expect(existsSync(scratch.slice(3))).toBe(false);
  expect(await image()).toEqual(marked);
  expect(await wire.ask('open')).toBe(scratch);
  await run(wire, '/usr/bin/test', '-e', 'm');
  expect(await wire.ask('close')).toBe('ok');
  expect(await wire.ask('open_golden')).toBe(scratch);
  expect(await wire.ask('capabilities')).toMatch(/ golden-image-id=directory%402$/);
  expect(await wire.ask('commit_golden')).toBe('ok');
  expect(await wire.ask('close')).toBe('(end)');
  expect(await wire.exit()).toBe(12);
});

test('G7: close discards', async () => {
  const wire = start();
  await mark(wire);
  expect(await wire.ask('close')).toBe('ok');
  expect(await image()).toEqual(original);
  expect(await wire.quit()).toBe(0);
});

test('G8: quit discards', async () => {
  const wire = start();
  await mark(wire);
  expect(await wire.quit()).toBe(0);
  expect(await image()).toEqual(original);
});

test('G9: the end of input discards and frees the lock', async () => {
  const wire = start();
  await mark(wire);
  wire.channel.toServer.end();
  expect(await wire.exit()).toBe(12);
  expect(await image()).toEqual(original);
});

test('G10: a signal discards and frees the lock', async () => {
  const wire = start();
  await mark(wire);
  wire.channel.terminate();
  expect(await wire.exit()).toBe('SIGTERM');
  expect(await image()).toEqual(original);
});

test('G13: what is reverted is not committed', async () => {
  const wire = start();
  const scratch = await mark(wire);
  expect(await wire.ask('revert')).toBe(scratch);
  expect(await wire.ask('commit-golden')).toBe('ok');
  expect(await image()).toEqual({ generation: '2', files: [] });
  expect(await wire.quit()).toBe(0);
});

test('G16: a second writer is refused and goes on', async () => {
  const [first, second] = [start(), start()];
  await mark(first);
  expect(await second.ask('open-golden')).toBe('golden-locked');
  expect(await second.ask('open')).toMatch(/^ok \//);
  expect([await second.quit(), await first.quit()]).toEqual([0, 0]);
});

test('G18: an image that another has replaced is kept; the testbed is closed, the session goes on', async () => {
  const wire = start();
  await mark(wire);
  await rm(path.join(root, 'head'));
  await symlink('1/', path.join(root, 'head'));
  expect(await wire.ask('commit-golden')).toBe('golden-changed');
  expect(said.join()).toContain('golden-changed: by another');
  expect((await image()).generation).toBe('1/');
  expect(await wire.ask('open')).toMatch(/^ok \//);
  expect(await wire.quit()).toBe(0);
});

/** The image, whose writable testbeds have some of their parts replaced. */
function spoiled(parts: (golden: GoldenTestbed) => Partial<GoldenTestbed>): TestbedSource {
  const source = directoryGoldenSource(root);
  return {
    ...source,
    async openGolden(signal) {
      const golden = await source.openGolden?.(signal);
      if (golden === undefined) throw new TypeError('no golden testbed');
      return { ...golden, ...parts(golden) };
    },
  };
}

test('a scratch directory that cannot be removed is a refusal, and nothing is committed', async () => {
  // its rm is gone
  const auxverb = ['/bin/sh', '-c', '[ "$1" != /bin/rm ] || exit 1; exec "$@"', 'sh'] as const;
  const wire = start(spoiled(() => ({ auxverb })));
  expect(await wire.ask('open-golden')).toMatch(/^ok \//);
  expect(await wire.ask('commit-golden')).toBe('commit-failed');
  expect(await image()).toEqual(original);
  expect(await wire.quit()).toBe(0);
});

test('what was published stands, also when closing fails', async () => {
  const dispose = async (golden: GoldenTestbed): Promise<void> => {
    await golden[Symbol.asyncDispose]();
    throw new Error('cannot unmount');
  };
  const wire = start(spoiled((golden) => ({ [Symbol.asyncDispose]: () => dispose(golden) })));
  await mark(wire);
  expect(await wire.ask('commit-golden')).toBe('ok');
  expect(said.join()).toContain('cannot unmount');
  expect(await image()).toEqual(marked);
  expect(await wire.quit()).toBe(0);
});
