/** The journal of claims: what it keeps, and that what a dead worker left is taken once. */
import { readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { keepSignsIn } from '../../src/exec/sign-of-life.ts';
import { enqueue } from '../../src/producer/enqueue.ts';
import { Claims } from '../../src/worker/claims.ts';
import { openJournal, restartableWorkers, takeDeadIncarnations } from '../../src/worker/journal.ts';
import { cannotBeElsewhere, startElsewhere } from '../unit/exec/fixtures/elsewhere.ts';
import { buildKey, buildRequest, startTestRedis, type TestRedis } from './fixtures.ts';

let server: TestRedis;
beforeEach(async () => {
  server = await startTestRedis();
});
afterEach(() => server[Symbol.asyncDispose]());

test('forgets nothing that is not settled: a clean end leaves it to the next worker', async () => {
  const other = await openJournal(server.state);
  {
    await using closing = new Claims(server.redis, other);
    await enqueue(server.redis, buildRequest('unsettled'), 'amd64');
    await closing.claim(buildKey);
  }
  await other[Symbol.asyncDispose]();
  expect(await readdir(server.state.workers)).toContain(other.incarnation);
  const settled = await openJournal(server.state);
  await settled[Symbol.asyncDispose]();
  expect(await readdir(server.state.workers)).not.toContain(settled.incarnation);
});

test('what a dead worker left is taken by one only, however many look, and whenever', async () => {
  const dead = new Set<string>();
  for (let i = 0; i < 12; i += 1) {
    const left = await openJournal(server.state);
    await left.write({ key: buildKey, token: `${i}` });
    await writeFile(path.join(left.folder, 'owner.json'), JSON.stringify({ pid: 1, started: '0', bootId: 'x' }));
    dead.add(left.incarnation);
  }
  const looks: Promise<string[]>[] = [];
  for (let i = 0; i < 8; i += 1) {
    looks.push(takeDeadIncarnations(server.state).then((all) => all.map(({ incarnation }) => incarnation)));
    await readdir(server.state.workers); // the next one begins while the others are at it
  }
  const taken = (await Promise.all(looks)).flat();
  expect(taken.toSorted()).toEqual([...dead].toSorted());
});

test('one that is just being opened is nobody’s to take', async () => {
  const opening = Array.from({ length: 6 }, () => openJournal(server.state));
  const taking = Array.from({ length: 6 }, () => takeDeadIncarnations(server.state));
  expect((await Promise.all(taking)).flat()).toEqual([]);
  for (const opened of await Promise.all(opening)) await opened.write({ key: buildKey, token: 'x' });
});

test('one whose maker died before it had written who it is, is cleared away', async () => {
  const half = await openJournal(server.state);
  await writeFile(path.join(half.folder, 'owner.json'), '{"pid":');
  const [found] = await takeDeadIncarnations(server.state);
  expect(found).toMatchObject({ incarnation: half.incarnation, claims: [] });
  await found?.forget();
  expect(await readdir(server.state.workers)).not.toContain(half.incarnation);
});

test.skipIf(cannotBeElsewhere)('that of a worker in another container is nobody’s to take while it lives', async () => {
  keepSignsIn(server.state.processes);
  await using other = await startElsewhere(server.state.processes);
  const far = await openJournal(server.state, { main: other.identity });
  await far.write({ key: buildKey, token: 'x' });
  await writeFile(path.join(far.folder, 'owner.json'), JSON.stringify(other.identity));
  expect(await takeDeadIncarnations(server.state)).toEqual([]);
  expect(await restartableWorkers(server.state)).toEqual([]); // its number is another process's here
  await other.kill();
  expect(await takeDeadIncarnations(server.state)).toMatchObject([{ incarnation: far.incarnation, claims: [{}] }]);
});
