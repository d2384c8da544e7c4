/** Jobs that ask for a fresh image, on a real server and a real store: one refresh for all, and what becomes of them. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { noteUpdate } from '../../src/golden/looked.ts';
import { enqueue } from '../../src/producer/enqueue.ts';
import { cancelRun, showRun } from '../../src/producer/runs.ts';
import { whyWaiting } from '../../src/producer/why.ts';
import { TestbedError } from '../../src/protocol/errors.ts';
import { failureError, failureOf } from '../../src/protocol/failure.ts';
import { refreshRequest } from '../../src/protocol/job-request.ts';
import type { Claimed } from '../../src/worker/claimed.ts';
import { recover } from '../../src/worker/recover.ts';
import { publishFiles } from '../unit/golden/fixtures/images.ts';
import { buildKey } from './fixtures.ts';
import {
  add,
  begin,
  claims,
  cleanUp,
  ended,
  findsNothing,
  gate,
  image,
  server,
  startWorker,
  takeUp,
  updated,
  wishing,
} from './freshness-world.ts';

beforeEach(begin);
afterEach(cleanUp);

describe('a hundred jobs that ask', () => {
  const hundred = (wish: object): Promise<string[]> =>
    Promise.all(Array.from({ length: 100 }, (_, index) => add(`toy${index}`, wish)));

  test.each([
    ['12 minutes', { maxAge: 720 }, 1],
    ['12 minutes', { maxAge: 720 }, 4],
    ['nothing at all', { maxAge: 0 }, 1],
    ['nothing at all', { maxAge: 0 }, 4],
  ])('for %s (%j, %i slots) cause one refresh, and run after it', async (_, wish, slots) => {
    const ids = await hundred(wish);
    await using worker = startWorker(slots, findsNothing);
    const runs = await ended(ids);
    expect(runs.filter(({ state }) => state === 'completed')).toHaveLength(100);
    expect(worker.ran.refreshes).toHaveLength(1);
    expect(worker.ran.jobs.toSorted()).toEqual(ids.toSorted());
  });

  test('and a refresh that fails ends all of them, once, with its name and its reason; nothing is refreshed again', async () => {
    const ids = await hundred({ maxAge: 0 });
    await using worker = startWorker(2, (claimed) => claimed.complete(updated('failed')));
    const runs = await ended(ids);
    const [refresh = ''] = worker.ran.refreshes;
    expect(worker.ran.refreshes).toHaveLength(1);
    expect(worker.ran.jobs).toEqual([]);
    const messages = new Set(runs.map(({ failure }) => failure?.message));
    for (const { failure } of runs) expect(failure?.class).toBe('infrastructure');
    expect([...messages]).toEqual([
      `img@1: 5 h old, 0 s allowed, and update-golden ${refresh} failed: update: exit 100: E: the mirror is away`,
    ]);
  });

  test('of an image that is fresh cause none', async () => {
    const ids = await hundred({ maxAge: 6 * 3600 });
    await using worker = startWorker(4, findsNothing);
    await ended(ids);
    expect(worker.ran.refreshes).toEqual([]);
    expect(worker.ran.jobs).toHaveLength(100);
  });
});

describe('a job that waits', () => {
  test('says what for, leaves the only slot to the refresh, and goes on as soon as that has ended', async () => {
    const id = await add('toy', { maxAge: 3600 });
    let release = (): void => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    await using worker = startWorker(1, async (claimed) => {
      await held;
      await findsNothing(claimed);
    });
    let run = await showRun(server.redis, id);
    while (run.waits === undefined || worker.ran.refreshes.length === 0) run = await showRun(server.redis, id);
    expect(run).toMatchObject({ state: 'delayed', waits: { image, run: worker.ran.refreshes[0], refreshes: 1 } });
    expect(await whyWaiting(server.redis, id)).toContain(
      `its image is refreshed first: update-golden ${run.waits?.run} of img`,
    );
    release();
    const [end] = await ended([id]);
    expect(end?.state).toBe('completed');
    expect(end?.waits).toBeUndefined();
    expect(Number(end?.finished) - run.waits.since).toBeLessThan(30_000); // it did not wait for its own look
  });

  test('joins a refresh that somebody else has begun', async () => {
    const begun = await enqueue(server.redis, refreshRequest(image, 'upgrade'), 'amd64');
    const id = await add('toy', { maxAge: 3600 });
    await using worker = startWorker(1, findsNothing);
    await ended([id]);
    expect(worker.ran.refreshes).toEqual([begun.runId]);
  });

  test('can be cancelled', async () => {
    const id = await add('toy', { maxAge: 3600 });
    using through = gate();
    const [claimed, request] = await takeUp(id);
    expect(await through.admit(claimed, request)).toBe(false);
    await cancelRun(server.redis, id, 'enough');
    expect((await showRun(server.redis, id)).state).toBe('cancelled');
    expect(await claims.claim(buildKey)).toBeUndefined();
  });

  test('and is cancelled in that moment ends there, instead of waiting on', async () => {
    const id = await add('toy', { maxAge: 3600 });
    using through = gate();
    const [claimed, request] = await takeUp(id);
    await cancelRun(server.redis, id, 'enough');
    await expect(through.admit(claimed, request)).rejects.toMatchObject({ name: 'Interruption', message: 'enough' });
    await claimed.drop();
  });

  test('fails when its refresh is cancelled', async () => {
    const id = await add('toy', { maxAge: 3600 });
    using through = gate();
    const [claimed, request] = await takeUp(id);
    await through.admit(claimed, request);
    const { waits } = await showRun(server.redis, id);
    await cancelRun(server.redis, waits?.run ?? '', 'not tonight');
    await using worker = startWorker(1, findsNothing, through);
    const [run] = await ended([id]);
    expect(run?.failure).toMatchObject({ class: 'infrastructure' });
    expect(run?.failure?.message).toMatch(/update-golden u\w+ was cancelled: not tonight$/);
    expect(worker.ran.refreshes).toEqual([]);
  });

  test('fails when its refresh gave up after its retries', async () => {
    const id = await add('toy', { maxAge: 3600 });
    const error = new TestbedError('open', 'overlay', 'no space');
    await using worker = startWorker(1, (claimed) =>
      claimed.fail(failureError(failureOf(error), error), { retry: false }),
    );
    const [run] = await ended([id]);
    expect(run?.failure?.message).toMatch(/and update-golden u\w+ failed: overlay: open: no space$/);
    expect(worker.ran.refreshes).toHaveLength(1);
  });

  test('does not ask for ever, if refreshes go well somewhere else only', async () => {
    const id = await add('toy', { maxAge: 3600 });
    await using worker = startWorker(1, (claimed) => claimed.complete(updated('unchanged', { host: 'bay7' })));
    const [run] = await ended([id]);
    expect(worker.ran.refreshes).toHaveLength(3);
    expect(run?.failure).toMatchObject({ class: 'infrastructure' });
    expect(run?.failure?.message).toMatch(/5 h old, 60 min allowed after 3 refreshes, the last one on bay7 by/);
  });
});

describe('a generation', () => {
  test('that the next update publishes is waited for', async () => {
    const id = await add('toy', { minGeneration: 2 });
    await using worker = startWorker(1, async (claimed) => {
      await publishFiles(server.state, image, { marker: '2' });
      await claimed.complete(updated('published'));
    });
    expect((await ended([id]))[0]?.state).toBe('completed');
    expect(worker.ran.refreshes).toHaveLength(1);
  });

  test('that no update can publish is the user’s mistake, told at once', async () => {
    const id = await add('toy', { minGeneration: 3 });
    await using worker = startWorker(1, findsNothing);
    const [run] = await ended([id]);
    expect(run?.failure).toEqual({
      class: 'usage',
      message: 'generation 3 was asked for, but the current one is 1 and the next one will be 2',
    });
    expect(worker.ran.refreshes).toEqual([]);
  });

  test('that the update did not publish, having nothing to do, is not to be had', async () => {
    const ids = [await add('one', { minGeneration: 2 }), await add('two', { minGeneration: 2 })];
    await using worker = startWorker(1, async (claimed) => {
      await noteUpdate(server.state, image, { status: 'unchanged', generation: 1 }, { by: 'test' });
      await claimed.complete(updated('unchanged', { host: 'here' }));
    });
    for (const run of await ended(ids)) {
      expect(run.failure).toMatchObject({ class: 'usage' });
      expect(run.failure?.message).toMatch(
        /^img@1: generation 2 was asked for, and update-golden u\w+ found nothing that would make a newer one$/,
      );
    }
    expect(worker.ran.refreshes).toHaveLength(1);
  });
});

describe('the policy of the host', () => {
  test('is for jobs that do not say, and not for images of external servers', async () => {
    const id = await add('toy', {});
    await using worker = startWorker(1, findsNothing, gate({ maxAgeOf: () => 3600 }));
    await ended([id]);
    expect(worker.ran.refreshes).toHaveLength(1);
    const external = { maxAgeOf: () => 3600, imageOf: async () => undefined };
    using through = gate(external);
    const admit = async (wish: object): Promise<boolean> =>
      through.admit({ runId: 'x', submitted: 0 } as Claimed, wishing('toy', wish));
    expect(await admit({})).toBe(true);
    await expect(admit({ maxAge: 5 })).rejects.toThrow('img is opened by an external server');
    await expect(admit({ minGeneration: 5 })).rejects.toThrow('img is opened by an external server');
  });
});

test('kill -9 between asking and waiting: the next worker looks again, and nothing is asked for twice', async () => {
  const id = await add('toy', { maxAge: 3600 });
  const script = fileURLToPath(new URL('ask-and-hold.ts', import.meta.url));
  const args = ['--import', 'tsx', script, server.state.root, server.socketPath, buildKey];
  const holder = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const [said] = (await once(holder.stdout, 'data')) as [Buffer];
  const asked = said.toString().trim();
  expect(asked).toMatch(/^u/);
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  expect((await showRun(server.redis, id)).state).toBe('active');
  await recover(server.state, claims, [], () => {});
  await using worker = startWorker(1, findsNothing);
  expect((await ended([id]))[0]?.state).toBe('completed');
  expect(worker.ran.refreshes).toEqual([asked]);
});
