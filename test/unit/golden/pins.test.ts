import { existsSync, readdirSync } from 'node:fs';
import { mkdir, rm, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test, vi } from 'vitest';
import { main } from '../../../src/cli/main.ts';
import { flock } from '../../../src/exec/flock.ts';
import { identityOf } from '../../../src/exec/process-identity.ts';
import { keepSignsIn } from '../../../src/exec/sign-of-life.ts';
import { HostError, messageOf } from '../../../src/protocol/errors.ts';
import { collect, collectOld } from '../../../src/golden/collect.ts';
import { keepGeneration, letGo } from '../../../src/golden/kept.ts';
import { layoutOf } from '../../../src/golden/layout.ts';
import { livePins, pinGeneration, reapPins, type Pinned } from '../../../src/golden/pins.ts';
import { removeImage } from '../../../src/golden/remove.ts';
import { rollBack } from '../../../src/golden/roll-back.ts';
import { showImage } from '../../../src/golden/show.ts';
import { generationNumbers } from '../../../src/golden/store.ts';
import { fencesAtWork, removeDeadWork } from '../../../src/golden/work-folder.ts';
import { cannotBeElsewhere, startElsewhere } from '../exec/fixtures/elsewhere.ts';
import { never, publishFiles, temporaryState, type TemporaryState } from './fixtures/images.ts';

/** Whole roots, so that none needs another. */
async function roots(state: TemporaryState, count: number): Promise<void> {
  for (let n = 1; n <= count; n++)
    await publishFiles(state, 'sid', { [`${n}`]: '' }, { details: { strategy: 'replace' } });
}

test('a pin names its generation, its process and what for, and is gone afterwards', async () => {
  await using state = await temporaryState();
  await roots(state, 2);
  const layout = layoutOf(state, 'sid');
  {
    await using pin = await pinGeneration(state, 'sid', { sessionId: 'a1', what: 'build hello' });
    expect([pin.record.generation, pin.content.layers]).toEqual([2, [path.join(layout.generations, '2/layer')]]);
    await using older = await pinGeneration(state, 'sid', { sessionId: 'b2', what: 'test hello', generation: 1 });
    expect(older.record.generation).toBe(1);
    expect(await livePins(layout)).toMatchObject([
      { session: 'a1', generation: 2, what: 'build hello', process: identityOf() },
      { session: 'b2', generation: 1, what: 'test hello' },
    ]);
  }
  expect(await livePins(layout)).toEqual([]);
});

test('unknown images and generations cannot be pinned, and leave nothing', async () => {
  await using state = await temporaryState();
  await roots(state, 1);
  const request = { sessionId: 'a1', what: 'x' };
  await expect(pinGeneration(state, 'bookworm', request)).rejects.toThrow(
    'there is no image bookworm (there are: sid)',
  );
  await expect(pinGeneration(state, 'sid', { ...request, generation: 9 })).rejects.toThrow('sid has no generation 9');
  expect(readdirSync(layoutOf(state, 'sid').pins).filter((name) => name.startsWith('a1'))).toEqual([]);
});

test('collection keeps the newest, the current, the pinned and what they stand on', async () => {
  await using state = await temporaryState();
  await roots(state, 3);
  await publishFiles(state, 'sid', { '4': '' }); // a layer on 3
  for (const n of [5, 6, 7]) await publishFiles(state, 'sid', { [`${n}`]: '' }, { details: { strategy: 'replace' } });
  const layout = layoutOf(state, 'sid');
  await using pin = await pinGeneration(state, 'sid', { sessionId: 'a1', what: 'x', generation: 4 });
  await rollBack(state, 'sid', 2);
  expect(await collect(state, 'sid', { keep: 2 })).toEqual([5, 1]);
  expect(await generationNumbers(layout)).toEqual([2, 3, 4, 6, 7]);
  expect(await collect(state, 'sid', { keep: 2 })).toEqual([]);
  await pin[Symbol.asyncDispose]();
  expect(await collect(state, 'sid', { keep: 1 })).toEqual([6, 4, 3]);
  expect(existsSync(layout.collecting)).toBe(false);
  await expect(collect(state, 'nosuch')).rejects.toThrow('there is no image nosuch');
});

test("a dead process's pin and a dead draft hold nothing and are removed", async () => {
  await using state = await temporaryState();
  await roots(state, 2);
  const layout = layoutOf(state, 'sid');
  await using _own = await pinGeneration(state, 'sid', { sessionId: 'live', what: 'x' });
  const process = { ...identityOf(), started: '0' };
  const dead = { v: 1, session: 'dead', process, since: '2024-01-01T00:00:00Z', generation: 1, what: 'x' };
  await writeFile(path.join(layout.pins, 'dead.json'), JSON.stringify(dead));
  const own = identityOf();
  const earlier = `.draft-${own?.pid}.1-x`; // another process had our number
  for (const name of ['.draft-4194304999-x', earlier]) await writeFile(path.join(layout.pins, name), '');
  expect(await collect(state, 'sid', { keep: 1 })).toEqual([1]);
  expect(readdirSync(layout.pins)).toEqual(['live.json']);
});

test('a generation that people keep stays, with its layers, until they let it go', async () => {
  await using state = await temporaryState();
  for (const name of ['1', '2', '3', '4', '5']) await publishFiles(state, 'sid', { [name]: name });
  const layout = layoutOf(state, 'sid');
  await publishFiles(state, 'sid', { whole: '' }, { details: { strategy: 'replace' } }); // stands on none of them
  await keepGeneration(state, 'sid', { generation: 3, by: 'me', reason: 'the release was built on it' });
  await collect(state, 'sid', { keep: 1 });
  expect(await generationNumbers(layout)).toEqual([1, 2, 3, 6]); // 1 and 2 are layers of 3
  await expect(keepGeneration(state, 'sid', { generation: 5, by: 'me', reason: '' })).rejects.toThrow(
    'has no generation 5',
  );
  await letGo(state, 'sid', 3);
  await collect(state, 'sid', { keep: 1 });
  expect(await generationNumbers(layout)).toEqual([6]);
});

test.skipIf(cannotBeElsewhere)('what a process in another container holds, it holds until that has ended', async () => {
  await using state = await temporaryState();
  await roots(state, 2);
  const layout = layoutOf(state, 'sid');
  keepSignsIn(state.processes);
  await using other = await startElsewhere(state.processes);
  const process = other.identity;
  const pin = { v: 1, session: 'far', process, since: '2024-01-01T00:00:00Z', generation: 1, what: 'x' };
  await writeFile(path.join(layout.pins, 'far.json'), JSON.stringify(pin));
  const { pid, started, bootId, pidNamespace, sign } = process;
  const work = path.join(layout.work, `7-${pid}-${started}-${bootId}.${pidNamespace}.${sign}`);
  await mkdir(work, { recursive: true });
  const [fresh, old] = ['a', 'b'].map((name) =>
    path.join(layout.root, `.draft-${pid}.${started}.${pidNamespace}-${name}`),
  );
  for (const draft of [fresh, old]) await writeFile(draft ?? '', 'half');
  await utimes(old ?? '', 0, 0);
  await removeDeadWork(state, layout);
  expect([existsSync(work), existsSync(fresh ?? ''), existsSync(old ?? '')]).toEqual([true, true, false]);
  expect(await fencesAtWork(layout)).toEqual([7]);
  expect(await collect(state, 'sid', { keep: 1 })).toEqual([]);
  expect(await livePins(layout)).toMatchObject([{ session: 'far' }]);
  await other.kill();
  expect(await collect(state, 'sid', { keep: 1 })).toEqual([1]);
  await removeDeadWork(state, layout);
  expect([readdirSync(layout.pins), readdirSync(layout.work)]).toEqual([[], []]);
});

test('pins of dead processes go from all images, those of living ones stay', async () => {
  await using state = await temporaryState();
  await roots(state, 1);
  await publishFiles(state, 'bookworm', { a: '' });
  await using pin = await pinGeneration(state, 'sid', { sessionId: 'alive', what: 'x' });
  const process = { ...identityOf(), pid: 1, started: '0' };
  const dead = { v: 1, session: 'dead', process, since: '2024-01-01T00:00:00Z', generation: 1, what: 'x' };
  const folders = ['bookworm', 'sid'].map((image) => layoutOf(state, image).pins);
  await mkdir(layoutOf(state, 'bookworm').pins);
  for (const folder of folders) await writeFile(path.join(folder, 'dead.json'), JSON.stringify(dead));
  await reapPins(state);
  expect(folders.map((folder) => readdirSync(folder))).toEqual([[], ['alive.json']]);
  await pin[Symbol.asyncDispose]();
});

test('a pin that a power cut has emptied is a dead one', async () => {
  await using state = await temporaryState();
  await roots(state, 2);
  const layout = layoutOf(state, 'sid');
  for (const lost of ['', '\0'.repeat(200)]) {
    await writeFile(path.join(layout.pins, 'lost.json'), lost);
    expect(await livePins(layout)).toEqual([]);
    expect(readdirSync(layout.pins)).toEqual([]);
  }
  await writeFile(path.join(layout.pins, 'lost.json'), '');
  expect(await collect(state, 'sid', { keep: 1 })).toEqual([1]);
});

test('a damaged pin stops what removes generations of its image, in one line, and nothing else', async () => {
  await using state = await temporaryState();
  await roots(state, 2);
  await publishFiles(state, 'bookworm', { a: '' });
  const layout = layoutOf(state, 'sid');
  const file = path.join(layout.pins, 'bad.json');
  await writeFile(file, '{');
  const line =
    `nothing of sid is removed: ${file} is damaged, or was written by another version of goldbed; ` +
    'remove it when no session is open on sid';
  await expect(collect(state, 'sid', { keep: 1 })).rejects.toThrow(new HostError(line));
  await expect(removeImage(state, 'sid', 'me')).rejects.toThrow(new HostError(line));
  const said: string[] = [];
  expect(await collectOld(state, 'sid', { keep: 1, signal: never }, (text) => said.push(text))).toEqual([]);
  expect(said).toEqual([`cannot remove old generations: ${line}`]);
  expect(await generationNumbers(layout)).toEqual([1, 2]);
  await reapPins(state); // as a worker does when it starts
  await using pin = await pinGeneration(state, 'sid', { sessionId: 'a1', what: 'x' });
  expect(await showImage(state, 'sid')).toMatchObject({ sessions: 1, all: [{ pins: [{ session: 'a1' }] }, {}] });
  await removeImage(state, 'bookworm', 'me');
  await rm(file);
  expect(await collect(state, 'sid', { keep: 1 })).toEqual([1]);
  expect(pin.record.generation).toBe(2);
});

test('one image that cannot be collected keeps no other from it', async () => {
  await using state = await temporaryState();
  await roots(state, 2);
  for (const name of ['a', 'z'])
    for (const n of [1, 2]) await publishFiles(state, name, { [`${n}`]: '' }, { details: { strategy: 'replace' } });
  await writeFile(path.join(layoutOf(state, 'sid').pins, 'bad.json'), '{');
  const said = { out: '', err: '' };
  const out = vi.spyOn(process.stdout, 'write').mockImplementation((text) => Boolean((said.out += String(text))));
  const err = vi.spyOn(process.stderr, 'write').mockImplementation((text) => Boolean((said.err += String(text))));
  const code = await main(['--state', state.root, 'image', 'gc', '--keep', '1']).finally(() => {
    out.mockRestore();
    err.mockRestore();
  });
  expect([code, said.out]).toEqual([76, 'a: removed 1\nz: removed 1\n']);
  expect(said.err).toMatch(/^goldbed: nothing of sid is removed: \S+bad.json is damaged[^\n]*\n$/);
});

test('a reader that meets a collection waits for its end', async () => {
  await using state = await temporaryState();
  await roots(state, 3);
  const layout = layoutOf(state, 'sid');
  const pin = (sessionId: string, generation?: number): Promise<Pinned> =>
    pinGeneration(state, 'sid', { sessionId, what: 'x', ...(generation === undefined ? {} : { generation }) });
  // a collection that has looked at the pins already and is about to remove 1, and will spare 2
  const lock = await flock(layout.lock);
  await writeFile(layout.collecting, JSON.stringify({ generations: [1, 2] }));
  const removed = pin('a1', 1);
  const spared = pin('b2', 2);
  const ended = removed.then(() => 'pinned', messageOf);
  {
    await using head = await pin('c3');
    expect(head.record.generation).toBe(3); // who opens another generation does not wait
  }
  await rm(path.join(layout.generations, '1'), { recursive: true });
  await rm(layout.collecting);
  await lock[Symbol.asyncDispose]();
  expect(await ended).toBe('sid has no generation 1 (it has 2, 3)');
  await using pinned = await spared;
  expect(pinned.record.generation).toBe(2);
  expect((await livePins(layout)).map((each) => each.session)).toEqual(['b2']);
});

test('the marks of a dead collection hold nobody up for ever', async () => {
  await using state = await temporaryState();
  await roots(state, 2);
  const layout = layoutOf(state, 'sid');
  await writeFile(layout.collecting, JSON.stringify({ generations: [1] }));
  await using pin = await pinGeneration(state, 'sid', { sessionId: 'a1', what: 'x', generation: 1 });
  expect([pin.record.generation, existsSync(layout.collecting)]).toEqual([1, false]);
  expect(await collect(state, 'sid', { keep: 1 })).toEqual([]);
});

test('marks of a collection that a power cut has emptied keep no session from opening', async () => {
  await using state = await temporaryState();
  await roots(state, 2);
  const layout = layoutOf(state, 'sid');
  for (const lost of ['', '\0'.repeat(20), '{']) {
    await writeFile(layout.collecting, lost);
    await using pin = await pinGeneration(state, 'sid', { sessionId: 'a1', what: 'x' });
    expect([pin.record.generation, existsSync(layout.collecting)]).toEqual([2, false]);
  }
});

test('readers that pin while others collect and publish always get a whole generation', async () => {
  await using state = await temporaryState();
  await roots(state, 1);
  let writing = true;
  const reader = async (name: string): Promise<number> => {
    let opened = 0;
    for (; writing; opened++) {
      await using pin = await pinGeneration(state, 'sid', { sessionId: `${name}${opened}`, what: 'x' });
      for (const layer of pin.content.layers) expect(readdirSync(layer)).toHaveLength(1);
    }
    return opened;
  };
  const readers = Promise.all(['r', 's'].map(reader));
  for (let n = 2; n <= 8; n++) {
    await publishFiles(state, 'sid', { [`${n}`]: '' }, { details: { strategy: 'replace' } });
    await collect(state, 'sid', { keep: 1 });
  }
  writing = false;
  expect((await readers).every((opened) => opened > 0)).toBe(true);
});
