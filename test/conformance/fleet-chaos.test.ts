/**
 * A fleet whose parts are killed, frozen and cut off at random: every job that was acknowledged ends in exactly one result,
 * of an attempt that there was; slots are never exceeded; and at the end nothing is left. GOLDBED_CHAOS_SEED replays the
 * faults, GOLDBED_FLEET_FAULTS sets how many: a thousand each for one fleet after another, with one seed after another, so
 * that what fails can be replayed in minutes.
 */
import { appendFileSync } from 'node:fs';
import { mkdir, symlink } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { enqueue, enqueueAll } from '../../src/producer/enqueue.ts';
import { resolveSource } from '../../src/producer/source.ts';
import { waitFor } from '../../src/producer/runs.ts';
import { jobRequestSchema, type JobRequest } from '../../src/protocol/job-request.ts';
import { dice, fleetFaults, type Dice } from './fixtures/dice.ts';
import { Fleet } from './fixtures/fleet.ts';
import { historyOf, leftOnHosts, type History } from './fixtures/fleet-history.ts';
import { requestFor, someFault } from './fixtures/fleet-faults.ts';
import { buildImage, goldbedWithImage } from './fixtures/goldbed.ts';
import { clockUnavailable } from './fixtures/moving-clock.ts';
import { stateWithImage } from './fixtures/partition.ts';
import { describeWith } from './fixtures/requirements.ts';
import { writeToy } from './fixtures/toy-package.ts';

const unavailable = clockUnavailable ?? (await overlayBackend(stateAt('/nonexistent')).unavailable());
const wanted = fleetFaults(300);
const perFleet = 1000;
/** How many faults each fleet meets. */
const fleets = Array.from({ length: Math.ceil(wanted / perFleet) }, (_, index) =>
  Math.min(perFleet, wanted - index * perFleet),
);

/**
 * Seconds. Every image is younger, however far a host's clock was moved: the demand is looked at, and met. One that is
 * not would take an update each time, and this image has no apt: its refresh fails, and all jobs that wait for it.
 */
const tenYears = 315_360_000;

for (const [index, count] of fleets.entries()) {
  describeWith('overlay', unavailable, `fleet ${index}`, () => {
    let fleet: Fleet;
    beforeAll(async () => {
      fleet = await Fleet.make(3, { clocks: true, smallDisks: 1 });
      await offerRealBuilds(fleet);
    });
    afterAll(() => fleet[Symbol.asyncDispose](), 60_000);

    test(
      `loses no job and counts none twice under ${count} faults`,
      async () => {
        const told = await torment(fleet, dice('fleet chaos', index), count);
        tell(told);
        expect(told.complaints, told.complaints.join('; ')).toEqual([]);
      },
      count * 4_000 + 120_000,
    );
  });
}

/** Hands in jobs and injects faults, until all jobs have ended; and looks at what has become of them. */
async function torment(fleet: Fleet, random: Dice, count: number): Promise<Told> {
  const requests: JobRequest[] = [];
  const runIds = new Set<string>();
  const hand = async (request: JobRequest): Promise<void> => {
    requests.push(request);
    // what has ended already is not begun anew: a second run that the server forgets could not be told from the first one
    runIds.add((await enqueue(fleet.redis, request, 'amd64', { reuse: true })).runId);
  };
  const limit = AbortSignal.timeout(count * 3_500 + 60_000);
  /** One that does not end is told by its history. */
  const waitForAll = async (ids: Iterable<string>): Promise<void> => {
    for (const runId of ids) await waitFor(fleet.redis, runId, limit).catch(() => {});
  };
  const ended = async (these: readonly JobRequest[]): Promise<void> => {
    // a server that lost its last writes may not know of them: handing in again changes nothing for the others
    const again = await enqueueAll(fleet.redis, these, 'amd64', { reuse: true });
    for (const { runId } of again) runIds.add(runId);
    await waitForAll(again.map(({ runId }) => runId));
  };
  const building: JobRequest[] = [];
  const complaints: string[] = [];
  const desk = {
    hand,
    acknowledged: (runId: string) => void runIds.add(runId),
    complain: (what: string) => void complaints.push(what),
  };
  const injected = new Map<string, number>();
  for (const host of fleet.hosts) host.start();
  for (let number = 0; number < count; number += 1) {
    const { mild, builds } = phaseOf(number, count);
    if (!mild) await ended(building.splice(0));
    const handing = [hand(someRequest(random, `a${number}`))];
    if (random.roll(2) < 1) handing.push(hand(someRequest(random, `b${number}`)));
    if (builds) {
      const build = await realBuild(fleet, number);
      building.push(build);
      handing.push(hand(build));
    }
    const fault = someFault(random, mild);
    injected.set(fault.name, (injected.get(fault.name) ?? 0) + 1);
    await fault.inject(fleet, random, { ...desk, number });
    await Promise.all(handing);
  }
  await ended(requests);
  await waitForAll(runIds);
  await Promise.all(fleet.hosts.map((host) => host.leave()));
  const history = await historyOf(fleet, [...runIds]);
  const all = [...complaints, ...history.complaints, ...leftOnHosts(fleet)];
  return { ...history, seed: random.seed, faults: Object.fromEntries(injected), complaints: all };
}

interface Told extends History {
  readonly seed: number;
  readonly faults: Readonly<Record<string, number>>;
}

/** In a line for people; and as one of JSON for the bench's report (`bench/chaos.ts` says what is in it). */
function tell({ seed, faults, jobs, real, attempts, repeated, complaints }: Told): void {
  const kinds = Object.entries(faults).map(([name, times]) => `${times} ${name}`);
  const count = Object.values(faults).reduce((sum, times) => sum + times, 0);
  const lost = complaints.filter((each) => each.includes(': lost: ')).length;
  process.stderr.write(
    `fleet chaos: ${count} faults (${kinds.join(', ')}), ${jobs} jobs (${real} real builds) in ${attempts} attempts, ${lost} lost, ${repeated} done again but counted once\n`,
  );
  const kept = process.env['GOLDBED_CHAOS_SUMMARY'];
  const date = new Date().toISOString().slice(0, 10);
  const line = { date, seed, faults, jobs, real, attempts, lost, repeated, complaints: complaints.length };
  if (kept) appendFileSync(kept, `${JSON.stringify(line)}\n`);
}

function someRequest(random: Dice, name: string): JobRequest {
  const milliseconds = Math.floor(random.roll(10) < 1 ? random.roll(2500) : random.roll(200));
  return requestFor(`job${name}-${milliseconds}`, random.roll(4) < 1 ? { maxAge: tenYears } : {});
}

/**
 * Real builds last for longer than a host lives under the worst faults, so the last fifth of each 300 is mild, and begins
 * with two of them. The worst ones go on when they have ended.
 */
function phaseOf(number: number, count: number): { readonly mild: boolean; readonly builds: boolean } {
  const cycle = Math.min(count, 300);
  const mildFrom = Math.floor(cycle * 0.8);
  const at = number % cycle;
  return { mild: at >= mildFrom, builds: at === mildFrom || at === mildFrom + 1 };
}

/** The image to build in, on the hosts that have room for it; and the sources of one producer, which they have in common. */
async function offerRealBuilds({ root, hosts }: Fleet): Promise<void> {
  const { state } = await goldbedWithImage(buildImage);
  const artifacts = path.join(root, 'artifacts');
  await mkdir(artifacts);
  for (const host of hosts.slice(0, -1)) {
    await stateWithImage(host.state.root, stateAt(state), buildImage.name);
    await symlink(artifacts, host.state.artifacts);
  }
}

async function realBuild({ root }: Fleet, number: number): Promise<JobRequest> {
  const tree = await writeToy(path.join(root, 'sources'), `toy${number}`, { build: 'echo real' });
  const source = await resolveSource(tree, path.join(root, 'artifacts'));
  return jobRequestSchema.parse({ v: 1, kind: 'build', image: buildImage.name, source });
}
