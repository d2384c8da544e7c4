/** Old generations take with them what backends have made of them, and no backend's trouble with that is the job's. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { resolvers } from '../../../src/exec/resolvers.ts';
import { reaperOf, type Reaper } from '../../../src/worker/reap.ts';
import { removeOld } from '../../../src/worker/remove-old.ts';
import { never, publishFiles, temporaryState, type TemporaryState } from '../golden/fixtures/images.ts';

const image = 'img';
let state: TemporaryState;
beforeEach(async () => {
  state = await temporaryState();
});
afterEach(() => state[Symbol.asyncDispose]());

/** None of them stands on another one. */
const publish = async (count: number): Promise<void> => {
  const details = { strategy: 'replace' } as const;
  for (let nth = 0; nth < count; nth += 1) await publishFiles(state, image, { marker: String(nth) }, { details });
};

/** @returns what the job's log says */
async function update(reap: () => void, keep: number): Promise<string[]> {
  const lines: string[] = [];
  const host = { state, keepGenerations: () => keep, reap };
  await removeOld(image, { host, log: (line) => void lines.push(line) }, never);
  return lines;
}

test('a removal asks the backends once, however many generations went; none asks nobody', async () => {
  await publish(4);
  const said = resolvers();
  const asked: string[] = [];
  const backends: Reaper[] = [
    { name: 'docker', reap: async () => Promise.reject(new Error('no luck')) },
    { name: 'qemu', reap: async () => (asked.push('qemu'), []) },
  ];
  const lines: string[] = [];
  const reap = reaperOf(backends, (line) => {
    lines.push(line);
    said.resolve();
  });
  expect(await update(reap, 9)).toEqual([]);
  expect(await update(reap, 1)).toEqual([expect.stringMatching(/^goldbed: removed generations /)]);
  await said.promise;
  expect(asked).toEqual(['qemu']);
  expect(lines).toEqual(['docker: not cleared away: no luck']);
});

test('the job does not wait for it, and what goes meanwhile is not forgotten', async () => {
  let turns = 0;
  const second = resolvers();
  const first = resolvers();
  const slow: Reaper = {
    name: 'qemu',
    async reap() {
      turns += 1;
      if (turns === 2) second.resolve();
      await first.promise;
      return [];
    },
  };
  const reap = reaperOf([slow], () => {});
  await publish(3);
  await update(reap, 2);
  await update(reap, 1);
  expect(turns).toBe(1);
  first.resolve();
  await second.promise;
});
