/**
 * Jobs that do nothing, already waiting: through all of goldbed's worker, through raw BullMQ, and through BullMQ that goes to
 * Redis as often.
 */
import { Queue, Worker } from 'bullmq';
import { debianArchitecture } from '../src/exec/debian-architecture.ts';
import { enqueueAll } from '../src/producer/enqueue.ts';
import type { RedisHandle } from '../src/redis/connect.ts';
import { noOpRequest, outcome, startNoOpWorker } from './no-op.ts';
import type { Server } from './queue-server.ts';

export interface Throughput {
  /** Milliseconds a job. */
  readonly goldbed: number;
  readonly bullmq: number;
  readonly twin: number;
  /** Goldbed's round trips a job. */
  readonly trips: number;
}

const image = 'through';

export async function measureThroughput(server: Server, jobs: number, slots: number): Promise<Throughput> {
  const names = Array.from({ length: jobs }, (_, index) => `none${index}`);
  await enqueueAll(
    server.redis,
    names.map((name) => noOpRequest(name, image)),
    await debianArchitecture(),
  );
  let trips = 0;
  const goldbed = await drained(jobs, async (each) => {
    const worker = await startNoOpWorker({ ...server, name: 'bench', slots, images: [image], ended: each });
    return {
      async [Symbol.asyncDispose]() {
        trips = worker.trips() / jobs;
        await worker[Symbol.asyncDispose]();
      },
    };
  });
  const raw = (queue: string, more: number): Promise<number> => rawThroughput(server, names, { queue, slots, more });
  // BullMQ's own: the completion of a job fetches the next
  return { goldbed, bullmq: await raw('raw', 0), twin: await raw('twin', Math.round(trips) - 1), trips };
}

/** @param more round trips beside BullMQ's own, each for itself */
async function rawThroughput(
  { redis, socketPath }: Server,
  names: readonly string[],
  { queue: name, slots, more }: { readonly queue: string; readonly slots: number; readonly more: number },
): Promise<number> {
  await using queue = rawQueue(redis, name);
  await queue.it.addBulk(
    names.map((each, i) => ({
      name: 'build',
      data: noOpRequest(each, image),
      opts: { jobId: `t${i}`, priority: 1 },
    })),
  );
  const asking = redis.duplicate();
  const ended = await drained(names.length, async (each) => {
    const options = { connection: { path: socketPath }, prefix: 'raw', concurrency: slots };
    const work = async (): Promise<unknown> => {
      for (let i = 0; i < more; i += 1) await asking.get('nothing');
      return outcome;
    };
    const worker = new Worker(name, work, options);
    worker.on('completed', each);
    return { [Symbol.asyncDispose]: () => worker.close() };
  });
  asking.disconnect();
  return ended;
}

export function rawQueue({ client }: RedisHandle, name: string): AsyncDisposable & { readonly it: Queue } {
  const it = new Queue(name, { connection: client, prefix: 'raw' });
  return { it, [Symbol.asyncDispose]: () => it.close() };
}

/** Milliseconds a job, for all of them. */
async function drained(jobs: number, start: (each: () => void) => Promise<AsyncDisposable>): Promise<number> {
  let left = jobs;
  let done = (): void => {};
  const all = new Promise<void>((resolve) => (done = resolve));
  const began = performance.now();
  await using _ = await start(() => {
    left -= 1;
    if (left === 0) done();
  });
  await all;
  return (performance.now() - began) / jobs;
}
