/** The queue, the image and the worker of freshness.test.ts: new for each test, on top of world.ts. */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { freshnessOf } from '../../src/golden/index.ts';
import { noteUpdate } from '../../src/golden/looked.ts';
import { askForRefresh, showRefresh } from '../../src/producer/refresh.ts';
import { enqueue } from '../../src/producer/enqueue.ts';
import { waitFor, type RunDetails } from '../../src/producer/runs.ts';
import { refreshRequest } from '../../src/protocol/job-request.ts';
import type { Outcome } from '../../src/protocol/outcome.ts';
import { subscribeNudges, type Nudges } from '../../src/redis/nudges.ts';
import type { Claimed } from '../../src/worker/claimed.ts';
import { FreshnessGate } from '../../src/worker/freshness.ts';
import { handle } from '../../src/worker/handle.ts';
import type { Host } from '../../src/worker/host.ts';
import { runLoop } from '../../src/worker/loop.ts';
import { publishFiles } from '../unit/golden/fixtures/images.ts';
import { buildKey, buildRequest, ledgerOf, outcome } from './fixtures.ts';
import { begin as beginQueue, claim, claims, cleanUp as cleanUpQueue, server } from './world.ts';

export { claims, journal, server } from './world.ts';

export const image = 'img';
export const updateKey = 'update-golden.any.amd64.m.img';
export let nudges: Nudges;

/** An empty queue, and an image of five hours ago. */
export async function begin(): Promise<void> {
  await beginQueue();
  nudges = await subscribeNudges(server.redis);
  await publishFiles(server.state, image, { marker: '1' });
  await age(5 * 3600);
}

export async function cleanUp(): Promise<void> {
  await nudges[Symbol.asyncDispose]();
  await cleanUpQueue();
}

/** As if the current generation had been made so many seconds ago. */
export async function age(seconds: number): Promise<void> {
  const { generation } = await freshnessOf(server.state, image);
  const folder = path.join(server.state.images, image, 'generations', String(generation));
  const file = path.join(folder, 'record.json');
  const record = JSON.parse(await readFile(file, 'utf8')) as object;
  await writeFile(file, JSON.stringify({ ...record, created: new Date(Date.now() - seconds * 1000).toISOString() }));
}

export function gate(more: Partial<ConstructorParameters<typeof FreshnessGate>[0]> = {}): FreshnessGate {
  const { redis, state } = server;
  return new FreshnessGate({
    redis,
    claims,
    nudges,
    host: 'here',
    maxAgeOf: () => undefined,
    imageOf: ({ image: name }) => freshnessOf(state, name),
    ask: (name, since) => askForRefresh(redis, refreshRequest(name, 'upgrade'), 'amd64', since),
    look: (run) => showRefresh(redis, run),
    ...more,
  });
}

export const wishing = (name: string, wish: object) => ({ ...buildRequest(name), ...wish });
export const add = async (name: string, wish: object): Promise<string> =>
  (await enqueue(server.redis, wishing(name, wish), 'amd64')).runId;

export function updated(status: 'published' | 'unchanged' | 'failed', more: object = {}): Outcome {
  const result = {
    kind: 'update-golden' as const,
    exitCode: status === 'failed' ? (1 as const) : (0 as const),
    status,
    before: 1,
    after: status === 'published' ? 2 : 1,
    packages: { added: 0, removed: 0, changed: 0 },
    ...(status === 'failed' ? { reason: 'update: exit 100: E: the mirror is away' } : {}),
  };
  return { ...outcome(), result, ...more };
}

/** Ends a refresh, as a worker would. */
export type Refresher = (claimed: Claimed) => Promise<void>;

export const findsNothing: Refresher = async (claimed) => {
  await noteUpdate(server.state, image, { status: 'unchanged', generation: 1 }, { by: 'test' });
  await claimed.complete(updated('unchanged'));
};

export interface Ran {
  readonly refreshes: string[];
  readonly jobs: string[];
}

/** A worker with the real claim loop; builds end at once with success, updates as told. */
export function startWorker(slots: number, refresh: Refresher, through = gate()) {
  const ran: Ran = { refreshes: [], jobs: [] };
  const stop = new AbortController();
  const run = async (claimed: Claimed): Promise<void> => {
    if (claimed.key === updateKey) {
      ran.refreshes.push(claimed.runId);
      return refresh(claimed);
    }
    await handle(claimed, host, admitting(through, claimed, ran), new AbortController().signal, () => {});
  };
  const finished = runLoop(
    {
      ledger: ledgerOf(slots),
      claims,
      offers: async () => [buildKey, updateKey],
      run,
      onNudge: (wake) => nudges.listen((said) => 'enqueued' in said && wake()),
      sweep: 60_000,
      log: () => {},
    },
    stop.signal,
  );
  return {
    ran,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await finished;
      through[Symbol.dispose]();
    },
  };
}

/** The gate, and then the end of the job: what it would have run is of no matter here. */
function admitting(through: FreshnessGate, claimed: Claimed, ran: Ran) {
  return async (...[job, request]: Parameters<FreshnessGate['admit']>): Promise<boolean> => {
    if (!(await through.admit(job, request))) return false;
    ran.jobs.push(claimed.runId);
    await claimed.complete(outcome());
    return false;
  };
}

const host = {
  get state() {
    return server.state;
  },
} as Host;

export const ended = (ids: readonly string[]): Promise<RunDetails[]> =>
  Promise.all(ids.map((id) => waitFor(server.redis, id, new AbortController().signal)));

export async function takeUp(id: string): Promise<[Claimed, ReturnType<typeof wishing>]> {
  const claimed = await claim();
  if (claimed.runId !== id) throw new Error(`claimed ${claimed.runId}`);
  return [claimed, claimed.data as ReturnType<typeof wishing>];
}
