/**
 * Real update-golden jobs, with apt, by two workers of one host on a real Redis, while workers and Redis are killed and
 * frozen: each job ends once, the image opens and is the old generation or the new one, and nothing is left.
 */
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { rollBack, verifyGeneration, type GenerationRecord } from '../../src/golden/index.ts';
import { layoutOf } from '../../src/golden/layout.ts';
import { leasedImages, showLease } from '../../src/redis/lease-view.ts';
import { contentOf } from '../../src/golden/stack.ts';
import { readHead } from '../../src/golden/store.ts';
import { outputOf } from '../../src/golden/verify.ts';
import { refreshRequest, type UpdateRequest } from '../../src/protocol/job-request.ts';
import type { Outcome } from '../../src/protocol/outcome.ts';
import { enqueue } from '../../src/producer/enqueue.ts';
import { waitFor } from '../../src/producer/runs.ts';
import { testCache } from './fixtures/base-image.ts';
import { dice, faults, type Dice } from './fixtures/dice.ts';
import { Fleet, fleetImage, type FleetHost } from './fixtures/fleet.ts';
import { leftOnHosts } from './fixtures/fleet-history.ts';
import { describeWith } from './fixtures/requirements.ts';
import { fillSmallDisk, mountSmallDisk } from './fixtures/small-disk.ts';
import { makeUpdatableImage } from './fixtures/updatable-image.ts';

const unavailable = process.getuid?.() === 0 ? await overlayBackend(stateAt('/nonexistent')).unavailable() : 'not root';
const kills = Math.max(1, Math.round(faults(40) / 10));
const blows = Math.max(2, Math.round(faults(20) / 10));
const never = new AbortController().signal;

describeWith('overlay', unavailable, 'updates by two workers', () => {
  let fleet: Fleet;
  let first: FleetHost;
  let second: FleetHost;
  /** What each update begins on. */
  let old: GenerationRecord;
  const head = () => readHead(first.state, fleetImage);

  beforeAll(async () => {
    const makeImage = async (state: string): Promise<void> => {
      await mountSmallDisk(state);
      await makeUpdatableImage(state, fleetImage, testCache());
    };
    fleet = await Fleet.make(2, { shared: true, makeImage });
    [first, second] = fleet.hosts as unknown as [FleetHost, FleetHost];
    old = await head();
  });
  afterAll(() => fleet[Symbol.asyncDispose](), 60_000);

  /** Hands in an update, and waits until a worker writes. */
  async function begin(): Promise<{ readonly runId: string }> {
    const request: UpdateRequest = { ...refreshRequest(fleetImage, 'upgrade') };
    const { runId } = await enqueue(fleet.redis, request, 'amd64');
    while ((await showLease(fleet.redis, fleetImage)) === undefined) await delay(5);
    return { runId };
  }

  /** Until apt runs. Before, for some milliseconds, a writer holds the store's flock(2): frozen just then it holds up others. */
  async function aptRuns(runId: string): Promise<void> {
    const log = path.join(first.state.jobs, runId, '1', 'log');
    while (!(await readFile(log, 'utf8').catch(() => '')).includes('goldbed: update\n')) await delay(5);
  }

  /** The job has ended once, well, and what it tells of is there. */
  async function ended(runId: string): Promise<Outcome> {
    const { state, outcome, failure } = await waitFor(fleet.redis, runId, never);
    expect({ state, failure }).toEqual({ state: 'completed', failure: undefined });
    if (outcome === undefined) throw new Error('no outcome');
    return outcome;
  }

  /** The image is the old generation or the next one, whole, and nothing else is left; the next test begins on the old one. */
  async function allIsWell(): Promise<void> {
    for (const host of fleet.hosts) await host.leave();
    const now = await head();
    if (now.generation === old.generation) expect(now).toEqual(old);
    else expect(now.parent).toBe(old.generation);
    expect((await verifyGeneration(first.state, fleetImage, now.generation, never)).damaged).toEqual([]);
    expect(await leasedImages(fleet.redis)).toEqual([]);
    expect(leftOnHosts(fleet)).toEqual([]);
    expect(await tinyVersion(now)).toBe(now.generation === old.generation ? '1' : '2');
    await rollBack(first.state, fleetImage, old.generation);
  }

  async function tinyVersion(record: GenerationRecord): Promise<string> {
    const content = contentOf(layoutOf(first.state, fleetImage), record);
    const sessionId = randomUUID().replaceAll('-', '');
    await using testbed = await overlayBackend(first.state).open(content, { sessionId }, never);
    const script = 'test -z "$(dpkg --audit)" && cat /usr/share/tiny/version';
    return (await outputOf(testbed.auxverb, ['/bin/sh', '-ec', script], never)).trim();
  }

  test('a worker frozen for longer than its lease: the other one publishes, and the first publishes nothing', async () => {
    first.start();
    const { runId } = await begin();
    await aptRuns(runId);
    first.signal('SIGSTOP');
    second.start();
    const outcome = await ended(runId);
    expect(outcome).toMatchObject({ host: second.name, result: { status: 'published', before: old.generation } });
    const published = await head();
    first.signal('SIGCONT');
    await first.end('SIGTERM');
    expect((await head()).generation).toBe(published.generation);
    expect(published.job).toBe(runId);
    await allIsWell();
  });

  test(
    `a worker killed at ${kills} moments: the other one does the job again`,
    async () => {
      const random: Dice = dice('broken updates');
      for (let round = 0; round < kills; round += 1) {
        first.start();
        const { runId } = await begin();
        await delay(random.roll(2000));
        await first.end('SIGKILL');
        second.start();
        const { result } = await ended(runId);
        expect(['published', 'unchanged']).toContain(result.status); // killed after it had published, before it was told
        await allIsWell();
      }
    },
    kills * 60_000,
  );

  test(
    `Redis killed or frozen at ${blows} moments: the update goes on or is done again, and is told once`,
    async () => {
      const random = dice('updates whose Redis is broken');
      for (let round = 0; round < blows; round += 1) {
        first.start();
        const { runId } = await begin();
        await delay(random.roll(1500));
        // in turn; the lease lives for three seconds, and a writer stops by its own clock when it cannot be renewed
        if (round % 2 === 0) await fleet.replaceServer();
        else {
          fleet.signalServer('SIGSTOP');
          await delay(random.roll(5000));
          fleet.signalServer('SIGCONT');
        }
        expect(['published', 'unchanged']).toContain((await ended(runId)).result.status);
        expect((await head()).parent).toBe(old.generation);
        await allIsWell();
      }
    },
    blows * 60_000 + 60_000,
  );

  test(
    `a disk that is full for a while, at ${blows} moments: whatever becomes of the job, the next one publishes`,
    async () => {
      const random = dice('updates by a worker on a full disk');
      for (let round = 0; round < blows; round += 1) {
        first.start();
        const { runId } = await begin();
        await delay(random.roll(1000));
        const empty = await fillSmallDisk(first.state.root, 2000 ** random.roll(1));
        await delay(random.roll(2000));
        await empty();
        if (!first.signal('SIGCONT')) first.start(); // it may have died of it
        const { state } = await waitFor(fleet.redis, runId, never);
        expect(['completed', 'failed']).toContain(state);
        await allIsWell();
        first.start();
        expect((await ended((await begin()).runId)).result).toMatchObject({
          status: 'published',
          before: old.generation,
        });
        await allIsWell();
      }
    },
    blows * 240_000,
  );
});
