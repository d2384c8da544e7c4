/** Running jobs that pass from one process of a worker to another: the words on the socket, and what becomes of the claims. */
import { once } from 'node:events';
import type * as promises from 'node:fs/promises';
import { writeFile } from 'node:fs/promises';
import { createConnection } from 'node:net';
import path from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { enqueue } from '../../src/producer/enqueue.ts';
import { showRun } from '../../src/producer/runs.ts';
import { Interruption, LeaseLost, TestbedError } from '../../src/protocol/errors.ts';
import { failureError, failureOf } from '../../src/protocol/failure.ts';
import { Claims } from '../../src/worker/claims.ts';
import type { Ending } from '../../src/worker/handle.ts';
import { follow } from '../../src/worker/follow.ts';
import { openJournal, takeDeadIncarnations, type Journal } from '../../src/worker/journal.ts';
import { KeeperLink, type AdoptedJob } from '../../src/worker/keeper-link.ts';
import { Keeper, keeperSocket } from '../../src/worker/keeper.ts';
import type { KeptJob } from '../../src/worker/kept-job.ts';
import { recoverEntries } from '../../src/worker/recover.ts';
import { takeOver, type Inheritance } from '../../src/worker/succession.ts';
import { buildKey, buildRequest, outcome, startTestRedis, type TestRedis } from './fixtures.ts';

/** Whether the disk has no room for a new file. */
const disk = vi.hoisted(() => ({ full: false }));
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof promises>();
  const open: typeof real.open = async (file, flags, mode) => {
    if (disk.full && flags === 'w') throw Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC' });
    return real.open(file, flags, mode);
  };
  return { ...real, open };
});

let server: TestRedis;
let journal: Journal;
let claims: Claims;
let keeper: Keeper;
const opened: Disposable[] = [];
const lines: string[] = [];

beforeEach(async () => {
  server = await startTestRedis();
  journal = await openJournal(server.state);
  claims = new Claims(server.redis, journal);
  keeper = await Keeper.open(journal.folder);
  lines.length = 0;
});
afterEach(async () => {
  for (const link of opened.splice(0)) link[Symbol.dispose]();
  await keeper[Symbol.asyncDispose]();
  await claims[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const renewal = () => ({ signal: new AbortController().signal, [Symbol.dispose]() {} });

/** Claimed, and not begun. */
async function claimed(name: string): Promise<KeptJob> {
  await enqueue(server.redis, buildRequest(name), 'amd64');
  const found = await claims.claim(buildKey);
  if (found === undefined) throw new Error('nothing to claim');
  return keeper.begin(found, renewal());
}

async function running(name: string): Promise<KeptJob> {
  const job = await claimed(name);
  job.begun();
  return job;
}

async function handOver(): Promise<void> {
  await keeper.asked();
  expect(await keeper.passOn()).toBe(true);
  keeper.answer();
}

async function take(): Promise<KeeperLink> {
  const link = await KeeperLink.take(keeperSocket(journal.folder, process.pid));
  opened.push(link);
  return link;
}

/** The keeper's only job, on its way to another process. */
async function pass(): Promise<AdoptedJob> {
  const [link] = await Promise.all([take(), handOver()]);
  expect(link.jobs).toHaveLength(1);
  return link.jobs[0] as AdoptedJob;
}

const stateOf = async (runId: string): Promise<string> => (await showRun(server.redis, runId)).state;

const raised = async (signal: AbortSignal): Promise<unknown> => {
  if (!signal.aborted) await once(signal, 'abort');
  return signal.reason;
};

test('nothing passes while a job is between two states', async () => {
  const beginning = await claimed('beginning');
  const ending = await running('ending');
  const taking = take();
  await keeper.asked();
  let passed = false;
  const passing = keeper.passOn().then(() => (passed = true));
  const settling = ending.complete(outcome());
  beginning.begun();
  expect(passed).toBe(false);
  await settling;
  ending[Symbol.dispose]();
  await passing;
  keeper.answer();
  expect((await taking).jobs.map(({ handed }) => handed.runId)).toEqual([beginning.runId]);
  expect(await stateOf(ending.runId)).toBe('completed');
});

test('whoever vanishes before it has the jobs changes nothing', async () => {
  const job = await running('unmoved');
  const socket = createConnection(keeperSocket(journal.folder, process.pid));
  socket.write(`${JSON.stringify({ say: 'take', version: 1 })}\n`);
  await keeper.asked();
  using hold = keeper.busy.hold();
  const passing = keeper.passOn();
  socket.destroy();
  await once(socket, 'close');
  await vanished();
  hold[Symbol.dispose]();
  expect(await passing).toBe(false);
  await job.complete(outcome());
  expect(await stateOf(job.runId)).toBe('completed');

  /** The keeper has heard of it, too: it hears in order. */
  async function vanished(): Promise<void> {
    const later = createConnection(keeperSocket(journal.folder, process.pid));
    later.end('no words of ours\n');
    later.resume();
    await once(later, 'close');
  }
});

test.each(['{"say":"take","version":2}', '{"say":', ''])('%s is refused', async (line) => {
  const socket = createConnection(keeperSocket(journal.folder, process.pid));
  socket.write(`${line}\n`);
  await once(socket.resume(), 'close');
});

test('what must stop a job is told to it as what it is', async () => {
  const job = await running('stopped');
  const adopted = await pass();
  adopted.abort(new Interruption('cancelled', 'enough of it'));
  const reason = await raised(job.signal);
  expect(reason).toBeInstanceOf(Interruption);
  expect(reason).toMatchObject({ reason: 'cancelled', message: 'enough of it' });
});

test('an end is told until it is acknowledged, to whoever is in charge then; and its outcome is on disk before', async () => {
  const job = await running('told');
  const first = await pass();
  const completing = job.complete(outcome());
  expect(await first.ending).toMatchObject({ how: 'complete' });
  expect(await journal.read()).toMatchObject([{ ended: { runId: job.runId } }]);
  const second = await take();
  expect(await second.jobs[0]?.ending).toMatchObject({ how: 'complete' });
  first.acknowledge(); // it is not in charge any more
  second.jobs[0]?.acknowledge('somebody else was first');
  await expect(completing).rejects.toThrow(LeaseLost);
});

test('on a full disk the outcome is told all the same', async () => {
  const job = await running('unwritten');
  const first = await pass();
  disk.full = true;
  const completing = job.complete(outcome());
  expect(await first.ending).toMatchObject({ how: 'complete' });
  first.acknowledge();
  await completing;
  disk.full = false;
});

test('jobs end with the process that has taken them over, and touch nothing', async () => {
  const job = await running('orphaned');
  await pass();
  const failed = job.complete(outcome()).then(
    () => undefined,
    (error: unknown) => error,
  );
  for (const link of opened.splice(0)) link[Symbol.dispose]();
  expect(await raised(job.signal)).toBeInstanceOf(LeaseLost);
  expect(await failed).toBeInstanceOf(LeaseLost);
  expect(keeper.lost.aborted).toBe(true);
  await expect(job.giveBack()).rejects.toThrow(LeaseLost);
  expect(await stateOf(job.runId)).toBe('active');
});

/** As the new process does it. */
async function takenOver(): Promise<{ follower: Claims; inheritance: Inheritance; following: Promise<Ending>[] }> {
  const [inheritance] = await Promise.all([takeOver(server.state, journal.incarnation), handOver()]);
  opened.push(...inheritance.links);
  const follower = new Claims(server.redis, inheritance.journal);
  const following = inheritance.jobs.map((job) =>
    follow(job, {
      claims: follower,
      keeper: { busy: keeper.busy, passed: new AbortController().signal },
      renew: renewal,
      recover: ({ entry }) => recoverEntries(inheritance.journal, [entry], follower, (line) => lines.push(line)),
      log: (line) => lines.push(line),
    }),
  );
  return { follower, inheritance, following };
}

test('the new process settles: an outcome', async () => {
  const job = await running('completed');
  const { inheritance, following } = await takenOver();
  await job.complete(outcome('from afar'));
  expect(await Promise.all(following)).toEqual([{ kind: 'completed' }]);
  expect(await showRun(server.redis, job.runId)).toMatchObject({ outcome: { result: { status: 'from afar' } } });
  expect(await inheritance.journal.read()).toEqual([]);
});

test('the new process settles: a testbed that failed', async () => {
  const job = await running('failed');
  const { following } = await takenOver();
  const error = new TestbedError('open', 'overlay', 'no luck');
  await job.fail(failureError(failureOf(error), error), { retry: true });
  expect(await Promise.all(following)).toEqual([{ kind: 'testbed', message: 'overlay: open: no luck' }]);
  expect(await stateOf(job.runId)).toBe('delayed');
});

test('the new process settles: a job that is given back, and one that has nothing to say', async () => {
  const back = await running('back');
  const silent = await running('silent');
  const { following } = await takenOver();
  await back.giveBack();
  silent[Symbol.dispose]();
  expect(await Promise.all(following)).toEqual([{ kind: 'other' }, { kind: 'other' }]);
  expect([await stateOf(back.runId), await stateOf(silent.runId)]).toEqual(['waiting', 'active']);
});

test('a job whose process is gone is given back, or told of if it had ended', async () => {
  const lost = await running('lost');
  const done = await running('done');
  const { inheritance, following } = await takenOver();
  await done.record(outcome());
  for (const link of inheritance.links) link[Symbol.dispose](); // as when the other end is gone
  await Promise.all(following);
  expect([await stateOf(lost.runId), await stateOf(done.runId)]).toEqual(['waiting', 'completed']);
  expect(await inheritance.journal.read()).toEqual([]);
});

test('claims that no process answers for are found in the journal', async () => {
  const job = await running('hands off');
  job[Symbol.dispose]();
  const { inheritance } = await takenOver();
  expect(inheritance.jobs).toEqual([]);
  expect(inheritance.left).toMatchObject([{ name: job.entry, token: job.token }]);
});

test('a disk that is full shows before anybody is asked for jobs: they go on where they are', async () => {
  const job = await running('stays');
  const taking = takeOver(server.state, journal.incarnation);
  disk.full = true;
  const asked = keeper.asked().then(async () => {
    await keeper.passOn();
    keeper.answer();
  });
  await expect(taking).rejects.toThrow(/cannot take over worker .*ENOSPC/);
  disk.full = false;
  expect([keeper.passed.aborted, job.signal.aborted]).toEqual([false, false]);
  await job.complete(outcome());
  expect(await stateOf(job.runId)).toBe('completed');
  await Promise.all([take(), asked]); // the next one may have them
});

test('nothing is taken over from a worker that is dead: its journal is for everybody', async () => {
  await writeFile(path.join(journal.folder, 'owner.json'), JSON.stringify({ pid: 1, started: '0', bootId: 'x' }));
  await expect(takeOver(server.state, journal.incarnation)).rejects.toThrow(/cannot take over worker/);
  expect(await takeDeadIncarnations(server.state)).toHaveLength(1);
});
