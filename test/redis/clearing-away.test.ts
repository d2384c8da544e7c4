/** What dead workers left: a backend that fails at removing it, hangs, or a disk that is full, keeps no worker from its jobs. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { enqueue } from '../../src/producer/enqueue.ts';
import { showRun } from '../../src/producer/runs.ts';
import { Claims } from '../../src/worker/claims.ts';
import { openJournal } from '../../src/worker/journal.ts';
import { reapAll, type Reaper } from '../../src/worker/reap.ts';
import { recover } from '../../src/worker/recover.ts';
import { buildRequest } from './fixtures.ts';
import { begin, claim, claims, cleanUp, server } from './world.ts';

beforeEach(begin);
afterEach(cleanUp);

const lines: string[] = [];
const log = (line: string): void => void lines.push(line);
afterEach(() => void lines.splice(0));

const failing: Reaper = { name: 'docker', reap: () => Promise.reject(new Error('(HTTP code 500) server error')) };
const hanging: Reaper = { name: 'qemu', reap: () => new Promise(() => {}) };
const working: Reaper = { name: 'overlay', reap: async () => ['abc'] };

test('a backend that fails keeps neither the others nor the claims of the dead', async () => {
  const left = await openJournal(server.state);
  const { runId } = await enqueue(server.redis, buildRequest('left'), 'amd64');
  await claim(new Claims(server.redis, left));
  await writeFile(path.join(left.folder, 'owner.json'), JSON.stringify({ pid: 1, started: '0', bootId: 'x' }));
  await recover(server.state, claims, [failing, working], log);
  expect(lines.toSorted()).toEqual(
    [
      'docker: not cleared away: (HTTP code 500) server error',
      'removed what session abc left',
      `${runId}: given back, its worker had died`,
    ].toSorted(),
  );
  expect(await showRun(server.redis, runId)).toMatchObject({ state: 'waiting' });
});

test('one that hangs is not waited for', async () => {
  await reapAll([hanging, working], log, 10);
  expect(lines).toEqual([
    'removed what session abc left',
    'qemu: not cleared away: not done within 0.01 s, and not waited for any longer',
  ]);
});

test('what cannot be cleared away is told, and no more', async () => {
  const workers = path.join(server.state.root, 'no-folder');
  await writeFile(workers, '');
  await recover({ ...server.state, workers }, claims, [], log);
  expect(lines).toEqual([expect.stringMatching(/^what dead workers left is not all cleared away: E/)]);
});
