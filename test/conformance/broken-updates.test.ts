/**
 * Real update-golden jobs, with apt, by two workers of one host on a real Redis, while workers and Redis are killed and
 * frozen: each job ends once, the image opens and is the old generation or the new one, and nothing is left.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { check } from '../../src/exec/run.ts';
import { verifyGeneration } from '../../src/golden/index.ts';
import { showLease } from '../../src/golden/lease.ts';
import { readHead } from '../../src/golden/store.ts';
import { decodeArgv } from '../../src/protocol/adt-virt/words.ts';
import { refreshRequest, type UpdateRequest } from '../../src/protocol/job-request.ts';
import type { Outcome } from '../../src/protocol/outcome.ts';
import { enqueue } from '../../src/producer/enqueue.ts';
import { waitFor } from '../../src/producer/runs.ts';
import { dice, faults, type Dice } from './fixtures/dice.ts';
import { Fleet, fleetImage, type FleetHost } from './fixtures/fleet.ts';
import { leftOnHosts } from './fixtures/fleet-history.ts';
import { Goldbed, virtProgram } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';
import { Wire } from './vectors/describe-virt-server.ts';

const unavailable = await overlayBackend(stateAt('/nonexistent')).unavailable();
const kills = Math.max(1, Math.round(faults(60) / 10));
const never = new AbortController().signal;

describeWith('overlay', unavailable, 'updates by two workers', () => {
  let fleet: Fleet;
  let first: FleetHost;
  let second: FleetHost;
  /** A generation without package lists: an update of it always has something to publish. */
  let bare: number;
  const head = () => readHead(first.state, fleetImage);

  beforeAll(async () => {
    fleet = await Fleet.make(2, { shared: true });
    [first, second] = fleet.hosts as unknown as [FleetHost, FleetHost];
    const wire = new Wire({
      argv: [virtProgram, 'overlay', fleetImage],
      env: { GOLDBED_NODE: process.execPath, GOLDBED_STATE: first.state.root },
      revert: true,
    });
    expect(await wire.ask('open-golden')).toMatch(/^ok /);
    const argv = decodeArgv((await wire.ask('print-execute-command')).slice(3));
    await check([...argv, '/bin/sh', '-c', 'rm -rf /var/lib/apt/lists/*; date +%N >/root/stamp']);
    expect(await wire.ask('commit-golden')).toMatch(/^ok/);
    await wire.quit();
    bare = (await head()).generation;
  }, 300_000);
  beforeEach(async () => {
    if ((await head()).generation !== bare) {
      const back = await new Goldbed(first.state.root).run('image', 'rollback', fleetImage, String(bare));
      expect(back.code, back.stderr).toBe(0);
    }
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

  async function allIsWell(): Promise<void> {
    for (const host of fleet.hosts) await host.leave();
    const now = await head();
    expect(now.parent === bare || now.generation === bare).toBe(true);
    expect((await verifyGeneration(first.state, fleetImage, now.generation, never)).damaged).toEqual([]);
    expect(await showLease(fleet.redis, fleetImage)).toBeUndefined();
    expect(leftOnHosts(fleet)).toEqual([]);
    const opened = await new Goldbed(first.state.root).run('image', 'show', fleetImage);
    expect(opened.code, opened.stderr).toBe(0);
  }

  test('a worker frozen for longer than its lease: the other one publishes, and the first publishes nothing', async () => {
    first.start();
    const { runId } = await begin();
    await aptRuns(runId);
    first.signal('SIGSTOP');
    second.start();
    const outcome = await ended(runId);
    expect(outcome).toMatchObject({ host: second.name, result: { status: 'published', before: bare } });
    const published = await head();
    first.signal('SIGCONT');
    await allIsWell();
    expect((await head()).generation).toBe(published.generation);
    expect(published.job).toBe(runId);
  });

  test(
    `a worker killed at ${kills} moments: the other one does the job again`,
    async () => {
      const random: Dice = dice('broken updates');
      for (let round = 0; round < kills; round += 1) {
        first.start();
        const { runId } = await begin();
        await delay(random.roll(3000));
        await first.end('SIGKILL');
        second.start();
        const { result } = await ended(runId);
        expect(['published', 'unchanged']).toContain(result.status); // killed after it had published, before it was told
        await allIsWell();
        await new Goldbed(first.state.root).run('image', 'rollback', fleetImage, String(bare));
      }
    },
    kills * 60_000,
  );

  test('Redis killed and replaced in the middle of an update: it goes on, and is recorded once', async () => {
    first.start();
    const { runId } = await begin();
    await fleet.replaceServer();
    expect((await ended(runId)).result).toMatchObject({ status: 'published', before: bare });
    await allIsWell();
  });

  test('Redis frozen for longer than the lease: the writer stops by its own clock, and the job is done again', async () => {
    first.start();
    const { runId } = await begin();
    fleet.signalServer('SIGSTOP');
    await delay(4_500); // the lease lives for three seconds
    fleet.signalServer('SIGCONT');
    expect(['published', 'unchanged']).toContain((await ended(runId)).result.status);
    await allIsWell();
  });
});
