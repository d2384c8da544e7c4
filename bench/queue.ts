/** The queue: handing in an archive rebuild, claiming, ending; and what an idle fleet costs. Beside raw BullMQ. */
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { Queue, Worker } from 'bullmq';
import { sizesOf } from '../src/config/sizes.ts';
import { stateAt } from '../src/config/state.ts';
import { enqueue, enqueueAll } from '../src/producer/enqueue.ts';
import { jobRequestSchema, type JobRequest } from '../src/protocol/job-request.ts';
import type { Outcome } from '../src/protocol/outcome.ts';
import { routingKey } from '../src/protocol/routing.ts';
import { times } from '../src/protocol/size.ts';
import { connectRedis, type RedisHandle } from '../src/redis/connect.ts';
import { acquireEmbedded } from '../src/redis/embedded.ts';
import { Claims } from '../src/worker/claims.ts';
import { openJournal } from '../src/worker/journal.ts';
import { Ledger } from '../src/worker/ledger.ts';
import { runLoop } from '../src/worker/loop.ts';
import { subscribeNudges } from '../src/redis/nudges.ts';
import { joinFleet } from './fleet.ts';
import type { Place } from './place.ts';
import type { QueueResults } from './results.ts';

const size = { enqueue: 40_000, latency: 300, throughput: 3_000, hosts: 500, images: 200, idleSeconds: 30 } as const;
const slots = 8;

export async function measureQueue(place: Place, rounds: number): Promise<QueueResults> {
  const results: QueueResults = { size: { ...size, slots }, programs: { goldbed: {}, bullmq: {} }, fleet: {} };
  const note = (program: 'goldbed' | 'bullmq', quantity: string, value: number): void => {
    (results.programs[program] ??= {})[quantity] = [...(results.programs[program]?.[quantity] ?? []), value];
  };
  for (let round = 0; round < rounds; round += 1) {
    place.say(`queue: round ${round + 1} of ${rounds}`);
    await using server = await startServer(place, `queue-${round}`);
    await enqueueMany(server, note);
    await claimLatency(server, note);
    await throughput(server, note);
  }
  await using server = await startServer(place, 'queue-idle');
  results.fleet = await idleFleet(server, place);
  return results;
}

interface Server extends AsyncDisposable {
  readonly root: string;
  readonly socketPath: string;
  readonly redis: RedisHandle;
}

async function startServer(place: Place, name: string): Promise<Server> {
  const root = place.folder(name);
  const embedded = await acquireEmbedded(stateAt(root), place.signal);
  const redis = await connectRedis({ kind: 'embedded', socketPath: embedded.socketPath }, 'bench');
  return {
    root,
    socketPath: embedded.socketPath,
    redis,
    async [Symbol.asyncDispose]() {
      await redis.client.flushall();
      await redis[Symbol.asyncDispose]();
      await embedded[Symbol.asyncDispose]();
    },
  };
}

type Note = (program: 'goldbed' | 'bullmq', quantity: string, value: number) => void;

async function enqueueMany({ redis }: Server, note: Note): Promise<void> {
  const requests = Array.from({ length: size.enqueue }, (_, index) => request(`pkg${index}`, 'rebuild'));
  for (const program of ['goldbed', 'bullmq'] as const) {
    const before = await usedMemory(redis);
    const began = performance.now();
    if (program === 'goldbed') await enqueueAll(redis, requests, 'amd64');
    else await rawEnqueue(redis, requests);
    note(program, 'enqueue', (performance.now() - began) / 1000);
    note(program, 'bytes', ((await usedMemory(redis)) - before) / size.enqueue);
    await redis.client.flushall();
  }
}

async function rawEnqueue(redis: RedisHandle, requests: readonly JobRequest[]): Promise<void> {
  await using queue = rawQueue(redis, 'raw');
  for (let i = 0; i < requests.length; i += 500) {
    const some = requests.slice(i, i + 500);
    const opts = { priority: 1, attempts: 3, backoff: { type: 'fixed', delay: 2000 } };
    await queue.it.addBulk(
      some.map((data, index) => ({ name: 'build', data, opts: { ...opts, jobId: `j${i + index}` } })),
    );
  }
}

function rawQueue({ client }: RedisHandle, name: string): AsyncDisposable & { readonly it: Queue } {
  const it = new Queue(name, { connection: client, prefix: 'raw' });
  return { it, [Symbol.asyncDispose]: () => it.close() };
}

/** From the call of the producer to the start of the job, one at a time, with a slot free. */
async function claimLatency(server: Server, note: Note): Promise<void> {
  let started = (): void => {};
  await using host = await startHost(server, 1, () => started());
  for (let i = 0; i < size.latency; i += 1) {
    const running = new Promise<void>((resolve) => (started = resolve));
    const began = performance.now();
    await enqueue(host.redis, request(`late${i}`, 'latency'), 'amd64');
    await running;
    note('goldbed', 'latency', performance.now() - began);
  }
  await using queue = rawQueue(server.redis, 'latency');
  let rawStarted = (): void => {};
  const worker = new Worker('latency', async () => rawStarted(), {
    connection: { path: server.socketPath },
    prefix: 'raw',
  });
  await worker.waitUntilReady();
  for (let i = 0; i < size.latency; i += 1) {
    const running = new Promise<void>((resolve) => (rawStarted = resolve));
    const began = performance.now();
    await queue.it.add('build', request(`late${i}`, 'latency'), { jobId: `l${i}`, priority: 1 });
    await running;
    note('bullmq', 'latency', performance.now() - began);
  }
  await worker.close();
}

/** Jobs that do nothing, already waiting. */
async function throughput(server: Server, note: Note): Promise<void> {
  const requests = Array.from({ length: size.throughput }, (_, index) => request(`none${index}`, 'through'));
  await enqueueAll(server.redis, requests, 'amd64');
  note('goldbed', 'perJob', await drained(async (each) => startHost(server, slots, each)));
  await using queue = rawQueue(server.redis, 'through');
  await queue.it.addBulk(requests.map((data, i) => ({ name: 'build', data, opts: { jobId: `t${i}`, priority: 1 } })));
  note(
    'bullmq',
    'perJob',
    await drained(async (each) => {
      const options = { connection: { path: server.socketPath }, prefix: 'raw', concurrency: slots };
      const worker = new Worker('through', async () => outcome, options);
      worker.on('completed', each);
      return { [Symbol.asyncDispose]: () => worker.close() };
    }),
  );
}

/** Milliseconds a job, for all of them. */
async function drained(start: (each: () => void) => Promise<AsyncDisposable>): Promise<number> {
  let left: number = size.throughput;
  let done = (): void => {};
  const all = new Promise<void>((resolve) => (done = resolve));
  const began = performance.now();
  await using _ = await start(() => {
    left -= 1;
    if (left === 0) done();
  });
  await all;
  return (performance.now() - began) / size.throughput;
}

interface HostUnderTest extends AsyncDisposable {
  readonly redis: RedisHandle;
}

/** A worker whose jobs do nothing: the real claims, journal and loop. `each` is called as each job begins. */
async function startHost({ root, socketPath }: Server, total: number, each: () => void): Promise<HostUnderTest> {
  const redis = await connectRedis({ kind: 'embedded', socketPath }, 'bench');
  const nudges = await subscribeNudges(redis);
  const journal = await openJournal(stateAt(root));
  const claims = new Claims(redis, journal);
  const stop = new AbortController();
  const offered = ['latency', 'through'].map((image) => routingKey('build', 'any', 'amd64', image));
  const options = {
    ledger: new Ledger(times(sizesOf().m, total), sizesOf()),
    claims,
    offers: () => Promise.resolve(offered),
    run: async (claimed: Parameters<Parameters<typeof runLoop>[0]['run']>[0]) => {
      each();
      await claimed.complete(outcome);
    },
    onNudge: (wake: () => void) => nudges.listen((said) => void ('enqueued' in said && wake())),
    sweep: 15_000,
    log: () => {},
  };
  const running = runLoop(options, stop.signal);
  return {
    redis,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await running;
      for (const part of [claims, journal, nudges, redis]) await part[Symbol.asyncDispose]();
    },
  };
}

/** Hosts with nothing to do, each with its real connections, heartbeat, loop and share in the coordinator's election. */
async function idleFleet(server: Server, place: Place): Promise<Record<string, number>> {
  const { redis } = server;
  place.say(`queue: ${size.hosts} idle hosts with ${size.images} images each`);
  await using fleet = await joinFleet(server, size.hosts, size.images);
  await delay(5_000, undefined, { signal: place.signal }); // all have announced themselves and looked once
  const pid = Number(/^process_id:(\d+)/m.exec(await redis.client.info('server'))?.[1]);
  const [cpu, commands] = [cpuSeconds(pid), await commandCount(redis)];
  await delay(size.idleSeconds * 1000, undefined, { signal: place.signal });
  return {
    cpuPercent: ((cpuSeconds(pid) - cpu) / size.idleSeconds) * 100,
    commandsPerHost: ((await commandCount(redis)) - commands) / size.idleSeconds / size.hosts,
    connectionsPerHost: (await connections(redis)) / size.hosts,
    queues: fleet.queues,
  };
}

const outcome: Outcome = {
  v: 1,
  result: { kind: 'build', exitCode: 0, status: 'successful' },
  generation: { image: 'bench', generation: 1, digest: 'sha256:0' },
  backend: 'overlay',
  host: 'bench',
  attempt: 1,
  steps: [],
  artifacts: [],
  more: 0,
};

function request(name: string, image: string): JobRequest {
  return jobRequestSchema.parse({
    v: 1,
    kind: 'build',
    image,
    source: { type: 'archive', package: name, version: '1.0-1' },
  });
}

async function usedMemory({ client }: RedisHandle): Promise<number> {
  return Number(/^used_memory:(\d+)/m.exec(await client.info('memory'))?.[1]);
}

async function commandCount({ client }: RedisHandle): Promise<number> {
  return Number(/^total_commands_processed:(\d+)/m.exec(await client.info('stats'))?.[1]);
}

async function connections({ client }: RedisHandle): Promise<number> {
  return Number(/^connected_clients:(\d+)/m.exec(await client.info('clients'))?.[1]);
}

/** User and system time of a process so far: fields 14 and 15 of proc(5), in hundredths. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
