/** A host that has been told to end begins nothing more, however slowly it was just looking for a job. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { enqueue } from '../../src/producer/enqueue.ts';
import { showRun } from '../../src/producer/runs.ts';
import { runLoop, type LoopOptions } from '../../src/worker/loop.ts';
import { buildKey, buildRequest, ledgerOf } from './fixtures.ts';
import { begin, claims, cleanUp, server } from './world.ts';

beforeEach(begin);
afterEach(cleanUp);

/** It is told to end in the middle of its first look. */
test.each<[string, (stop: () => void) => Partial<LoopOptions>]>([
  ['while it asks what it may run', (stop) => ({ offers: async () => (stop(), [buildKey]) })],
  [
    'while it asks for queues that have work',
    (stop) => ({
      claims: {
        ready: async () => (stop(), claims.ready()),
        claim: (...args) => claims.claim(...args),
        first: (asked) => claims.first(asked),
        keepRoomFor: (keys) => claims.keepRoomFor(keys),
        nextDue: () => claims.nextDue(),
      },
    }),
  ],
])('%s', async (_, told) => {
  const { runId } = await enqueue(server.redis, buildRequest('a'), 'amd64');
  const stop = new AbortController();
  const begun: string[] = [];
  await runLoop(
    {
      ledger: ledgerOf(1),
      claims,
      offers: async () => [buildKey],
      run: async (claimed) => void begun.push(claimed.runId),
      onNudge: () => () => {},
      sweep: 60_000,
      log: () => {},
      ...told(() => stop.abort()),
    },
    stop.signal,
  );
  expect(begun).toEqual([]);
  expect(await showRun(server.redis, runId)).toMatchObject({ state: 'waiting' });
  expect(await claims.claim(buildKey)).toMatchObject({ runId, attempt: 1 });
});
