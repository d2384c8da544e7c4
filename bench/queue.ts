/** The queue: handing in an archive rebuild, claiming, ending; what an idle fleet costs; how long a dead host is missed. */
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'bullmq';
import { debianArchitecture } from '../src/exec/debian-architecture.ts';
import { enqueue, enqueueAll } from '../src/producer/enqueue.ts';
import type { JobRequest } from '../src/protocol/job-request.ts';
import type { RedisHandle } from '../src/redis/connect.ts';
import { measureDeadHost } from './dead-host.ts';
import { joinFleet } from './fleet.ts';
import { noOpRequest, startNoOpWorker } from './no-op.ts';
import type { Place } from './place.ts';
import { cpuSeconds, startServer, told, type Server } from './queue-server.ts';
import type { QueueResults } from './results.ts';
import { measureThroughput, rawQueue } from './throughput.ts';

const size = { enqueue: 40_000, latency: 300, throughput: 2_000, hosts: 500, images: 200, idleSeconds: 30 } as const;
const slots = 8;

export async function measureQueue(place: Place, rounds: number): Promise<QueueResults> {
  const results: QueueResults = {
    size: { ...size, slots },
    programs: { goldbed: {}, bullmq: {} },
    fleet: {},
  };
  const note: Note = (program, quantity, value) => {
    (results.programs[program] ??= {})[quantity] = [...(results.programs[program]?.[quantity] ?? []), value];
  };
  for (let round = 0; round < rounds; round += 1) {
    place.say(`queue: round ${round + 1} of ${rounds}`);
    await using server = await startServer(place, `queue-${round}`);
    await enqueueMany(server, note);
    await claimLatency(server, note);
    const { trips, ...perJob } = await measureThroughput(server, size.throughput, slots);
    for (const [program, milliseconds] of Object.entries(perJob)) note(program, 'perJob', milliseconds);
    note('goldbed', 'trips', trips);
  }
  {
    await using server = await startServer(place, 'queue-idle');
    results.fleet = await idleFleet(server, place);
  }
  place.say('queue: a host that dies');
  await using server = await startServer(place, 'queue-dead');
  note('goldbed', 'deadHost', await measureDeadHost(server, place));
  return results;
}

type Note = (program: string, quantity: string, value: number) => void;

async function enqueueMany({ redis }: Server, note: Note): Promise<void> {
  const requests = Array.from({ length: size.enqueue }, (_, index) => noOpRequest(`pkg${index}`, 'rebuild'));
  for (const program of ['goldbed', 'bullmq'] as const) {
    const before = await told(redis, 'used_memory');
    const began = performance.now();
    if (program === 'goldbed') await enqueueAll(redis, requests, 'amd64');
    else await rawEnqueue(redis, requests);
    note(program, 'enqueue', (performance.now() - began) / 1000);
    note(program, 'bytes', ((await told(redis, 'used_memory')) - before) / size.enqueue);
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

/** From the call of the producer to the start of the job, one at a time, with a slot free. */
async function claimLatency(server: Server, note: Note): Promise<void> {
  const arch = await debianArchitecture();
  let started = (): void => {};
  const options = { name: 'bench', slots: 1, images: ['latency'], job: () => started() };
  await using host = await startNoOpWorker({ ...server, ...options });
  for (let i = 0; i < size.latency; i += 1) {
    const running = new Promise<void>((resolve) => (started = resolve));
    const began = performance.now();
    await enqueue(host.redis, noOpRequest(`late${i}`, 'latency'), arch);
    await running;
    note('goldbed', 'latency', performance.now() - began);
  }
  await using queue = rawQueue(server.redis, 'latency');
  let rawStarted = (): void => {};
  const connection = { path: server.socketPath };
  const worker = new Worker('latency', async () => rawStarted(), { connection, prefix: 'raw' });
  await worker.waitUntilReady();
  for (let i = 0; i < size.latency; i += 1) {
    const running = new Promise<void>((resolve) => (rawStarted = resolve));
    const began = performance.now();
    await queue.it.add('build', noOpRequest(`late${i}`, 'latency'), { jobId: `l${i}`, priority: 1 });
    await running;
    note('bullmq', 'latency', performance.now() - began);
  }
  await worker.close();
}

/** Hosts with nothing to do, each with its real connections, heartbeat, loop and share in the coordinator's election. */
async function idleFleet(server: Server, place: Place): Promise<Record<string, number>> {
  const { redis } = server;
  place.say(`queue: ${size.hosts} idle hosts with ${size.images} images each`);
  await using fleet = await joinFleet(server, size.hosts, size.images);
  await delay(5_000, undefined, { signal: place.signal }); // all have announced themselves and looked once
  const pid = await told(redis, 'process_id');
  const [cpu, commands] = [cpuSeconds(pid), await told(redis, 'total_commands_processed')];
  await delay(size.idleSeconds * 1000, undefined, { signal: place.signal });
  const done = (await told(redis, 'total_commands_processed')) - commands;
  return {
    cpuPercent: ((cpuSeconds(pid) - cpu) / size.idleSeconds) * 100,
    commandsPerHost: done / size.idleSeconds / size.hosts,
    connectionsPerHost: (await told(redis, 'connected_clients')) / size.hosts,
    queues: fleet.queues,
  };
}
