/** Whoever comes first removes what dead sessions left, as far as that can be done. */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { createSessionFolder, reapSessionFolders } from '../../../src/backends/session-folder.ts';
import { stateAt } from '../../../src/config/state.ts';
import { emptyTrash } from '../../../src/exec/trash.ts';
import { ownIdentity } from '../../../src/exec/process-identity.ts';

test('what cannot be undone keeps its folder, for the next who tries, and does not hold up the others', async () => {
  const state = stateAt(await mkdtemp(path.join(tmpdir(), 'goldbed-reap-')));
  const left = (): string[] => readdirSync(state.sessions).toSorted();
  createSessionFolder(state, 'schroot', 'living');
  for (const id of ['a', 'busy', 'c']) {
    mkdirSync(path.join(state.sessions, `schroot-${id}`));
    const dead = { ...ownIdentity(), started: '0' };
    writeFileSync(path.join(state.sessions, `schroot-${id}`, 'owner.json'), JSON.stringify(dead));
  }
  const lines: string[] = [];
  const undo = async (id: string): Promise<void> => {
    if (id === 'busy') throw new Error('target is busy');
  };
  const reaped = await reapSessionFolders(state, 'schroot', undo, (line) => void lines.push(line));
  expect(reaped.toSorted()).toEqual(['a', 'c']);
  expect(left()).toEqual(['schroot-busy', 'schroot-living']);
  expect(lines).toEqual(['cannot remove what session busy left: target is busy']);
  expect(await reapSessionFolders(state, 'schroot', async () => {})).toEqual(['busy']);
  expect(left()).toEqual(['schroot-living']);
  await emptyTrash(state.trash, { wait: true });
  await rm(state.root, { recursive: true });
});
