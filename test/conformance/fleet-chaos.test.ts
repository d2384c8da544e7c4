/**
 * A fleet whose parts are killed, frozen and cut off at random: every job that was acknowledged ends in exactly one result,
 * of an attempt that there was; slots are never exceeded; and at the end nothing is left. GOLDBED_CHAOS_SEED replays the
 * faults, GOLDBED_CHAOS_FAULTS sets how many.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync } from 'node:fs';
import { readdir, stat, truncate } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { enqueue, enqueueAll } from '../../src/producer/enqueue.ts';
import { waitFor } from '../../src/producer/runs.ts';
import { jobRequestSchema, type JobRequest } from '../../src/protocol/job-request.ts';
import { dice, faults, type Dice } from './fixtures/dice.ts';
import { Fleet, fleetImage, type FleetHost } from './fixtures/fleet.ts';
import { historyOf, leftOnHosts } from './fixtures/fleet-history.ts';
import { program } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';

const unavailable = await overlayBackend(stateAt('/nonexistent')).unavailable();
const count = faults(300);
const never = new AbortController().signal;

describeWith('overlay', unavailable, 'a fleet', () => {
  let fleet: Fleet;
  beforeAll(async () => {
    fleet = await Fleet.make(3);
  }, 300_000);
  afterAll(() => fleet[Symbol.asyncDispose](), 60_000);

  test(
    `loses no job and counts none twice under ${count} faults`,
    async () => {
      const random = dice('fleet chaos');
      const requests: JobRequest[] = [];
      const runIds = new Set<string>();
      const hand = async (request: JobRequest): Promise<void> => {
        requests.push(request);
        runIds.add((await enqueue(fleet.redis, request, 'amd64')).runId);
      };
      const injected = new Map<string, number>();
      for (const host of fleet.hosts) host.start();
      for (let number = 0; number < count; number += 1) {
        const handing = [hand(someRequest(random, `a${number}`)), hand(someRequest(random, `b${number}`))];
        const fault = someFault(random);
        injected.set(fault.name, (injected.get(fault.name) ?? 0) + 1);
        await fault.inject(fleet, random, number, hand);
        await Promise.all(handing);
      }
      // a server that lost its last writes may not know of them: handing in again changes nothing for the others
      for (const { runId } of await enqueueAll(fleet.redis, requests, 'amd64', { reuse: true })) runIds.add(runId);
      for (const runId of runIds) await waitFor(fleet.redis, runId, never);
      await Promise.all(fleet.hosts.map((host) => host.leave()));
      const history = await historyOf(fleet, [...runIds]);
      process.stderr.write(`fleet chaos: ${summary(injected, history)}\n`);
      const kept = process.env['GOLDBED_CHAOS_SUMMARY']; // for the bench's report
      if (kept) appendFileSync(kept, `${new Date().toISOString().slice(0, 10)}: ${summary(injected, history)}\n`);
      expect(history.complaints).toEqual([]);
      expect(leftOnHosts(fleet)).toEqual([]);
    },
    count * 4_000 + 120_000,
  );
});

function summary(injected: ReadonlyMap<string, number>, history: Awaited<ReturnType<typeof historyOf>>): string {
  const kinds = [...injected].map(([name, times]) => `${times} ${name}`);
  const lost = history.complaints.filter((each) => each.includes(': lost: ')).length;
  const { jobs, attempts, repeated } = history;
  return `${count} faults (${kinds.join(', ')}), ${jobs} jobs in ${attempts} attempts, ${lost} lost, ${repeated} done again but counted once`;
}

function someRequest(random: Dice, name: string): JobRequest {
  const milliseconds = Math.floor(random.roll(10) < 1 ? random.roll(2500) : random.roll(200));
  return requestFor(`job${name}-${milliseconds}`);
}

function requestFor(name: string): JobRequest {
  const source = { type: 'archive', package: name };
  return jobRequestSchema.parse({ v: 1, kind: 'build', image: fleetImage, source });
}

interface Fault {
  readonly name: string;
  readonly weight: number;
  /** @param hand hands in a job, and is told that it is in the queue */
  inject(fleet: Fleet, random: Dice, number: number, hand: (request: JobRequest) => Promise<void>): Promise<void>;
}

const someHost = (fleet: Fleet, random: Dice): FleetHost =>
  fleet.hosts[Math.floor(random.roll(fleet.hosts.length))] as FleetHost;

/** Most often shorter than a heartbeat, sometimes longer than what makes a host dead. */
const pause = (random: Dice): Promise<void> => delay(random.roll(8) < 1 ? random.roll(4000) : random.roll(300));

const kinds: readonly Fault[] = [
  {
    name: 'workers killed',
    weight: 5,
    async inject(fleet, random) {
      const host = someHost(fleet, random);
      await pause(random);
      await host.end('SIGKILL');
      host.start();
    },
  },
  {
    name: 'workers frozen',
    weight: 5,
    async inject(fleet, random) {
      const host = someHost(fleet, random);
      const pid = random.roll(2) < 1 ? host.pid : (host.inCharge() ?? host.pid); // not the same after a restart
      send(pid, 'SIGSTOP');
      await pause(random);
      send(pid, 'SIGCONT');
    },
  },
  {
    name: 'workers restarted, their jobs going on',
    weight: 5,
    async inject(fleet, random) {
      const host = someHost(fleet, random);
      await Promise.race([host.ready(), host.ended()]); // a program that is just being loaded dies of it
      host.signal('SIGHUP');
      await pause(random);
    },
  },
  {
    name: 'processes in charge killed',
    weight: 3,
    async inject(fleet, random) {
      const host = someHost(fleet, random);
      await pause(random);
      const pid = host.inCharge();
      if (pid === undefined) return;
      send(pid, 'SIGKILL');
      await host.ended();
      host.start();
    },
  },
  {
    name: 'workers drained and restarted',
    weight: 2,
    async inject(fleet, random) {
      const host = someHost(fleet, random);
      await host.end('SIGTERM');
      host.start();
    },
  },
  {
    name: 'hosts cut off',
    weight: 5,
    async inject(fleet, random) {
      const { proxy } = someHost(fleet, random);
      proxy.cut();
      await pause(random);
      proxy.mend();
    },
  },
  {
    name: 'servers killed',
    weight: 2,
    inject: (fleet) => fleet.replaceServer(),
  },
  {
    name: 'servers frozen',
    weight: 2,
    async inject(fleet, random) {
      fleet.signalServer('SIGSTOP');
      await pause(random);
      fleet.signalServer('SIGCONT');
    },
  },
  {
    name: 'servers that lost their last writes',
    weight: 1,
    inject: (fleet, random) => fleet.replaceServer(() => truncateLog(fleet, random)),
  },
  {
    name: 'producers killed',
    weight: 1,
    async inject(fleet, random, number, hand) {
      const env = { ...process.env, GOLDBED_STATE: fleet.hosts[0]?.state.root, GOLDBED_NODE: process.execPath };
      const url = ['--redis-url', (fleet.hosts[0] as FleetHost).proxy.socketPath];
      const argv = [...url, 'build', `killed${number}-1`, '--image', fleetImage];
      const producer = spawn(program, argv, { env, stdio: 'ignore' });
      const gone = once(producer, 'exit');
      await delay(random.roll(500));
      producer.kill('SIGKILL');
      await gone;
      await hand(requestFor(`killed${number}-1`)); // whether it came into the queue, nobody was told: this completes it
    },
  },
];

/** It may have ended. */
function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // then there is nothing to do
  }
}

function someFault(random: Dice): Fault {
  let left = random.roll(kinds.reduce((sum, { weight }) => sum + weight, 0));
  return kinds.find(({ weight }) => (left -= weight) < 0) as Fault;
}

/** The end of the append-only file: the server takes what is whole, as after a power cut without fsync. */
async function truncateLog(fleet: Fleet, random: Dice): Promise<void> {
  const folder = path.join(fleet.root, 'r', 'redis');
  const found = (await readdir(folder, { recursive: true })).filter((name) => name.endsWith('.incr.aof'));
  const [last] = found.toSorted().slice(-1);
  if (last === undefined) throw new Error(`no append-only file in ${folder}`);
  const file = path.join(folder, last);
  const { size } = await stat(file);
  await truncate(file, Math.max(0, size - Math.floor(random.roll(Math.min(size, 20_000)))));
}
