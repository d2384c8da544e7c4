/** A mix of jobs of all sizes on a real server, with simulated hosts: none is blocked by another, and none starves. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { enqueue, enqueueAll } from '../../src/producer/enqueue.ts';
import { findRun, showRun } from '../../src/producer/runs.ts';
import type { Size } from '../../src/protocol/size.ts';
import { withQueue } from '../../src/redis/with-queue.ts';
import { Claims } from '../../src/worker/claims.ts';
import { openJournal } from '../../src/worker/journal.ts';
import { buildRequest, ledgerOf, startTestRedis, type TestRedis } from './fixtures.ts';
import { keyOf, patience, SimulatedHost, type Clock, type Start } from './simulated-host.ts';

let server: TestRedis;
let clock: Clock;
let hosts: SimulatedHost[];
let handedIn: { readonly size: Size; readonly runId: string }[];

beforeEach(async () => {
  server = await startTestRedis();
  [clock, hosts, handedIn] = [{ now: 0 }, [], []];
});
afterEach(async () => {
  await Promise.all(hosts.map((host) => host[Symbol.asyncDispose]()));
  await server[Symbol.asyncDispose]();
});

/** @returns the id of the last */
async function add(size: Size, count = 1): Promise<string> {
  const requests = Array.from({ length: count }, (_, i) => ({ ...buildRequest(`p${handedIn.length + i}`), size }));
  const runs = await enqueueAll(server.redis, requests, 'amd64');
  handedIn.push(...runs.map(({ runId }) => ({ size, runId })));
  return runs.at(-1)?.runId ?? '';
}

async function join(slots: number): Promise<SimulatedHost> {
  const host = new SimulatedHost(ledgerOf(slots), clock, seconds);
  hosts.push(await host.join(server.redis, server.state));
  return host;
}

/** The most that a job of a size takes; the ids of the jobs decide how much of it. */
const longest: Readonly<Record<Size, number>> = { s: 40, m: 100, l: 120, xl: 150 };
const seconds = ({ size, runId }: Start): number =>
  Math.ceil((longest[size] * (1 + (Number.parseInt(runId.slice(1, 5), 16) % 100))) / 100);

const starts = (): Start[] => hosts.flatMap((host) => host.starts);
const startOf = (runId: string): number | undefined => starts().find((start) => start.runId === runId)?.at;
const waiting = (size: Size): number =>
  handedIn.filter((one) => one.size === size).length - starts().filter((one) => one.size === size).length;

/** Seconds between two looks. */
const tick = 5;

/** Time passes, and of some sizes there are always jobs that wait. @param each is called when all hosts have settled */
async function pass(time: number, flood: readonly Size[], each: () => void = () => {}): Promise<void> {
  for (const until = clock.now + time; clock.now < until; clock.now += tick) {
    for (const size of flood) if (waiting(size) < 4) await add(size, 20);
    await Promise.all(hosts.map((host) => host.settle()));
    each();
  }
}

describe('a flood of small jobs on one host', () => {
  test('goes on beside itself, whichever is first: no size blocks another, and no room stays unused', async () => {
    const host = await join(4);
    await pass(600, ['s', 'm'], () => {
      expect(host.ledger.keepsRoomFor !== undefined || !host.ledger.hasRoom('s')).toBe(true);
    });
    expect(longestGap('s')).toBeLessThanOrEqual(longest.m);
    expect(longestGap('m')).toBeLessThanOrEqual(patience + longest.m);
  });

  test('a few large ones begin within the patience and the longest job, each; small ones go on until then', async () => {
    const host = await join(4);
    await pass(100, ['s', 'm']);
    const large = [await add('xl'), await add('xl'), await add('xl')];
    const asked = clock.now;
    let small = 0;
    let kept = 0;
    while (large.some((runId) => startOf(runId) === undefined) && clock.now < 3000) {
      const before = starts().length;
      await pass(tick, ['s', 'm'], () => {
        const keeps = host.ledger.keepsRoomFor === 'xl';
        kept += keeps ? 1 : 0;
        small += keeps ? 0 : starts().length - before;
        // what gets free is kept for it, and all the rest is used
        if (!keeps && host.ledger.keepsRoomFor === undefined) expect(host.ledger.hasRoom('s')).toBe(false);
      });
    }
    let since = asked;
    for (const runId of large) {
      const at = startOf(runId) ?? Infinity;
      // and the time until it is noticed, and until the room is asked for
      expect(at - since).toBeLessThanOrEqual(patience + Math.max(longest.m, longest.xl) + 4 * tick);
      since = at;
    }
    expect(kept).toBeGreaterThan(0);
    expect(small).toBeGreaterThan(10);
    await pass(300, ['s', 'm']);
    expect(starts().filter(({ at, size }) => at > since && size !== 'xl').length).toBeGreaterThan(10);
  });

  test('what the large one leaves of the host is used while its room is kept', async () => {
    const host = await join(5);
    await pass(100, ['s', 'm']);
    const large = await add('xl');
    let beside = 0;
    while (startOf(large) === undefined && clock.now < 1000) {
      const before = starts().length;
      await pass(tick, ['s', 'm'], () => {
        if (host.ledger.keepsRoomFor === 'xl') beside += starts().length - before;
      });
    }
    expect(startOf(large)).toBeLessThanOrEqual(100 + patience + longest.m + 4 * tick);
    expect(beside).toBeGreaterThan(0);
  });

  test('all sizes at once: each has its turn', async () => {
    await join(4);
    await pass(1500, ['s', 'm', 'l', 'xl']);
    // one may have to wait for the others that have starved for longer, each with a job of its own
    const turn = patience + longest.xl + 4 * tick;
    for (const size of ['s', 'm', 'l', 'xl'] as const) expect(longestGap(size)).toBeLessThanOrEqual(4 * turn);
  });
});

function longestGap(size: Size): number {
  const times = [0, ...starts().flatMap((start) => (start.size === size ? [start.at] : [])), clock.now];
  return Math.max(...times.slice(1).map((at, index) => at - (times[index] ?? 0)));
}

describe('several hosts', () => {
  test('one keeps its room for the large job, the others go on; it is over when any of them has begun it', async () => {
    const [one, other] = [await join(4), await join(4)];
    await pass(100, ['s', 'm']);
    const large = await add('xl');
    let keeping = 0;
    while (startOf(large) === undefined && clock.now < 1000) {
      await pass(tick, ['s', 'm'], () => {
        const all = [one, other].filter((host) => host.ledger.keepsRoomFor === 'xl');
        expect(all.length).toBeLessThanOrEqual(1);
        keeping += all.length;
      });
    }
    expect(keeping).toBeGreaterThan(0);
    expect(startOf(large)).toBeLessThanOrEqual(100 + patience + longest.m + 4 * tick);
    expect([one, other].some((host) => host.ledger.keepsRoomFor === 'xl')).toBe(false);
  });

  test('a small host takes nothing of a queue whose jobs never fit it, and goes on', async () => {
    const small = await join(1);
    const large = await add('xl');
    await pass(300, ['m']);
    expect(small.ledger.keepsRoomFor).not.toBe('xl');
    expect(startOf(large)).toBeUndefined();
    await join(4);
    await pass(tick, ['m']);
    expect(hosts[1]?.starts.map(({ runId }) => runId)).toContain(large);
  });
});

describe('the first job of a queue', () => {
  test('is the one that is claimed next; and still the same while it waits', async () => {
    await using claims = new Claims(server.redis, await openJournal(server.state));
    const key = keyOf('l');
    const first = async (job?: string): Promise<string | undefined> => (await claims.first([{ key, job }])).get(key);
    expect(await first()).toBeUndefined();
    await add('l', 3);
    const [a = '', b = ''] = handedIn.map(({ runId }) => runId);
    expect(await first()).toBe(a);
    expect(await first(b)).toBe(b);
    const claimed = await claims.claim(key);
    expect(claimed?.runId).toBe(a);
    expect(await first(a)).toBe(b);
    await claimed?.giveBack();
    expect(await first()).toBe(a);
    const again = await claims.claim(key);
    await again?.leave(-1000); // its time has come, and nobody has put it with the others
    expect(await first(a)).toBe(a);
    await withQueue(server.redis, key, (queue) => queue.pause());
    expect(await first(a)).toBeUndefined();
  });
});

test('a request may name a size; without one it is what it was, and m', async () => {
  const plain = await enqueue(server.redis, buildRequest('p'), 'amd64');
  expect(plain.runId).toBe('b0d91becae543307');
  expect(await findRun(server.redis, plain.runId)).not.toHaveProperty('size');
  const usual = await enqueue(server.redis, { ...buildRequest('p'), size: 'm' }, 'amd64');
  expect(usual.runId).not.toBe(plain.runId);
  expect(await server.redis.client.hget(server.redis.keys.run(usual.runId), 'queue')).toBe(keyOf('m'));
  const large = await enqueue(server.redis, { ...buildRequest('p'), size: 'xl' }, 'amd64');
  expect(await showRun(server.redis, large.runId)).toMatchObject({ size: 'xl', state: 'waiting' });
});
