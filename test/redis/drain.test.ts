/** A host that has been told to end begins nothing more, however slowly it was just looking for a job; and it ends. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { resolvers } from '../../src/exec/resolvers.ts';
import { enqueue } from '../../src/producer/enqueue.ts';
import { showRun } from '../../src/producer/runs.ts';
import { runLoop, type LoopOptions } from '../../src/worker/loop.ts';
import { connectRedis } from '../../src/redis/connect.ts';
import { Claims } from '../../src/worker/claims.ts';
import { startBlackholeProxy } from './blackhole-proxy.ts';
import { buildKey, buildRequest, ledgerOf } from './fixtures.ts';
import { listenFor } from './listen-for.ts';
import { begin, claims, cleanUp, journal, server } from './world.ts';

beforeEach(begin);
afterEach(cleanUp);

/** @returns the runs that were begun */
async function loop(more: Partial<LoopOptions>, stop: AbortSignal): Promise<string[]> {
  const begun: string[] = [];
  const options: LoopOptions = {
    ledger: ledgerOf(1),
    claims,
    offers: async () => [buildKey],
    run: async (claimed) => void begun.push(claimed.runId),
    onNudge: () => () => {},
    sweep: 60_000,
    log: () => {},
    ...more,
  };
  await runLoop(options, stop);
  return begun;
}

/** The claims of the host, but for one of their methods. */
const claimsWith = (more: Partial<LoopOptions['claims']>): Pick<LoopOptions, 'claims'> => ({
  claims: {
    ready: () => claims.ready(),
    claim: (...args) => claims.claim(...args),
    first: (asked) => claims.first(asked),
    keepRoomFor: (keys) => claims.keepRoomFor(keys),
    nextDue: () => claims.nextDue(),
    ...more,
  },
});

/** It is told to end in the middle of its first look. */
test.each<[string, (stop: () => void) => Partial<LoopOptions>]>([
  ['while it asks what it may run', (stop) => ({ offers: async () => (stop(), [buildKey]) })],
  ['while it asks for queues that have work', (stop) => claimsWith({ ready: async () => (stop(), claims.ready()) })],
])('%s', async (_, told) => {
  const { runId } = await enqueue(server.redis, buildRequest('a'), 'amd64');
  const stop = new AbortController();
  const begun = await loop(
    told(() => stop.abort()),
    stop.signal,
  );
  expect(begun).toEqual([]);
  expect(await showRun(server.redis, runId)).toMatchObject({ state: 'waiting' });
  expect(await claims.claim(buildKey)).toMatchObject({ runId, attempt: 1 });
});

test('while Redis is away', async () => {
  await using proxy = await startBlackholeProxy(server.socketPath);
  await using far = await connectRedis({ kind: 'embedded', socketPath: proxy.socketPath }, 'test');
  await using away = new Claims(far, journal);
  const stop = new AbortController();
  const offers = async () => {
    proxy.drop();
    setImmediate(() => stop.abort()); // it asks for ready queues by then
    return [buildKey];
  };
  expect(await loop({ claims: away, offers, grace: 50 }, stop.signal)).toEqual([]);
});

test('what a claim brings that was under way goes back when it comes too late', async () => {
  const { runId } = await enqueue(server.redis, buildRequest('late'), 'amd64');
  const stop = new AbortController();
  const answer = resolvers();
  const claim: LoopOptions['claims']['claim'] = async (key) => {
    const claimed = await claims.claim(key);
    stop.abort();
    await answer.promise;
    return claimed;
  };
  const ledger = ledgerOf(1);
  expect(await loop({ ...claimsWith({ claim }), ledger, grace: 10 }, stop.signal)).toEqual([]);
  expect((await showRun(server.redis, runId)).state).toBe('active');
  const back = await listenFor(server.redis, (nudge) => 'enqueued' in nudge && nudge.enqueued === buildKey);
  answer.resolve();
  await back.heard;
  expect([(await showRun(server.redis, runId)).state, ledger.full]).toEqual(['waiting', false]);
});

test('and it begins what comes in time', async () => {
  const { runId } = await enqueue(server.redis, buildRequest('in time'), 'amd64');
  const stop = new AbortController();
  const claim: LoopOptions['claims']['claim'] = async (key) => {
    stop.abort();
    return claims.claim(key);
  };
  expect(await loop(claimsWith({ claim }), stop.signal)).toEqual([runId]);
});
