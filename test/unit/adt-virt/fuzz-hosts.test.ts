/**
 * Random conversations with servers that have no image: null, which is this host itself, and a pretended machine that
 * reverts and reboots. As fuzz.test.ts: every reply and the exit status are as the protocol says, and nothing is left.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setImmediate as immediate } from 'node:timers/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { nullSource } from '../../../src/backends/null.ts';
import { startInProcess } from '../../../src/protocol/adt-virt/pair.ts';
import type { Testbed, TestbedSource } from '../../../src/protocol/testbed.ts';
import { conversation, type Conversation, type Places } from './fixtures/fuzz-conversation.ts';
import { judge, type Features } from './fixtures/fuzz-expectation.ts';
import { fuzzParameters } from './fixtures/fuzz-parameters.ts';
import { play } from './fixtures/fuzz-play.ts';

const sandbox = mkdtempSync(path.join(tmpdir(), 'goldbed fuzz-'));
const at = (name: string): string => path.join(sandbox, name);
const onHost = { file: at('file'), folder: at('folder/'), up: at('up/') };
beforeAll(() => {
  for (const folder of ['folder', 'up', 'new', 'root/tmp', 'root/run', 'root/var/cache/folder'])
    mkdirSync(at(folder), { recursive: true });
  for (const file of ['file', 'folder/a b', 'root/var/cache/file', 'root/var/cache/folder/a b'])
    writeFileSync(at(file), 'content');
});
afterAll(() => rmSync(sandbox, { recursive: true }));

const places = {
  null: { ...onHost, insideFile: at('file'), insideFolder: at('folder/'), insideNew: at('new/') },
  machine: { ...onHost, insideFile: '/var/cache/file', insideFolder: '/var/cache/folder/', insideNew: '/var/cache/' },
};

/** Commands see a folder as their root, as far as it is /tmp, /run or /var/cache: the first two are lost at a reboot. */
const rebase = 'my $r = shift; s{(?<![\\w.])/(tmp|run|var/cache)/}{$r/$1/}g for @ARGV; exec { $ARGV[0] } @ARGV';

const machine = (): TestbedSource => {
  const lose = async (): Promise<void> => {
    for (const folder of ['root/tmp', 'root/run']) {
      rmSync(at(folder), { recursive: true });
      mkdirSync(at(folder));
    }
  };
  const traits = ['isolation-machine', 'revert-full-system'] as const;
  const auxverb = ['/usr/bin/perl', '-e', rebase, at('root')] as const;
  const testbed: Testbed = { auxverb, traits, revert: lose, reboot: lose, [Symbol.asyncDispose]: lose };
  return { name: 'machine', traits, revert: true, reboot: true, open: async () => testbed };
};

const servers: [string, () => TestbedSource, Places, Features][] = [
  ['null', () => nullSource(process.getuid?.() ?? 0), places.null, { revert: false, reboot: false, golden: false }],
  ['machine', machine, places.machine, { revert: true, reboot: true, golden: false }],
];

test.each(servers)('random conversations with %s', { timeout: 3_600_000 }, async (name, source, known, features) => {
  const without = ['SIGKILL', 'SIGINT', 'SIGHUP', 'SIGQUIT'] as const; // of one process there is only one way to abort
  const shape = { places: known, maxCommands: 12, maxDelay: 20, without };
  const property = fc.asyncProperty(conversation(shape), async (one) => {
    expect(await complaints(one, source(), features)).toEqual([]);
  });
  await fc.assert(property, fuzzParameters(`unit fuzz, ${name}`, 80, 15_000));
});

async function complaints(one: Conversation, source: TestbedSource, features: Features): Promise<string[]> {
  const options = { copyTimeout: 0, log: () => {}, signal: new AbortController().signal };
  const channel = startInProcess(source, options);
  const pause = async (delay: number): Promise<void> => {
    for (let i = 0; i < delay; i++) await immediate();
  };
  const { lines, exit } = await play({ ...channel, kill: () => channel.terminate(), pause }, one, features);
  const image = { generation: 1, marks: [] };
  const found = judge(one, image, { lines, exit, image }, features);
  const scratch = lines.filter((line) => /^ok \/tmp\/[^,]*$/.test(line)).map((line) => line.slice(3));
  const left = scratch.filter((folder) => existsSync(folder) || existsSync(at(`root${folder}`)));
  const copies = readdirSync(at('up')).filter((name) => name.startsWith('.goldbed-copy'));
  const saved = readdirSync(at('root/var/cache')).filter((name) => name.endsWith('.tar'));
  return [...found, ...[...left, ...copies, ...saved].map((name) => `left: ${name}`)];
}
