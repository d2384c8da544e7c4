/** What a worker counts, as Prometheus reads it. Names and units follow prometheus.io/docs/practices/naming. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { parseRoutingKey } from '../protocol/routing.ts';
import type { Resources } from '../protocol/size.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { knownKeys } from '../redis/ready.ts';
import type { Breaker } from './breaker.ts';
import type { Claimed } from './claimed.ts';
import type { Ending } from './handle.ts';
import type { Ledger } from './ledger.ts';

export interface MeteredWorker {
  readonly redis: RedisHandle;
  readonly host: string;
  readonly ledger: Ledger;
  readonly breaker: Breaker;
}

export class Metrics {
  readonly registry = new Registry();
  readonly #jobs: Counter<'kind' | 'outcome'>;
  readonly #wait: Histogram<'kind'>;
  readonly #seconds: Histogram<'kind'>;

  constructor({ redis, host, ledger, breaker }: MeteredWorker) {
    const registers = [this.registry];
    this.registry.setDefaultLabels({ host });
    this.#jobs = new Counter({
      name: 'goldbed_jobs_total',
      help: 'Jobs that have ended here. outcome: completed, testbed (will be tried again), other.',
      labelNames: ['kind', 'outcome'],
      registers,
    });
    this.#wait = new Histogram({
      name: 'goldbed_claim_wait_seconds',
      help: 'From handing in to the claim.',
      labelNames: ['kind'],
      buckets: [0.05, 0.25, 1, 5, 30, 300, 3600, 36_000],
      registers,
    });
    this.#seconds = new Histogram({
      name: 'goldbed_job_seconds',
      help: 'From the claim to the end.',
      labelNames: ['kind'],
      buckets: [1, 5, 30, 120, 600, 3600, 14_400, 36_000],
      registers,
    });
    gauge('goldbed_slots', 'Slots of this host.', [], (set) => set({}, ledger.slots));
    gauge('goldbed_slots_busy', 'Slots that are taken.', [], (set) => set({}, ledger.busy));
    for (const { name, what, of } of measures) {
      gauge(`goldbed_${name}`, `${what} for jobs.`, [], (set) => set({}, of(ledger.capacity)));
      gauge(`goldbed_reserved_${name}`, `${what} that running jobs have reserved.`, [], (set) =>
        set({}, of(ledger.reserved)),
      );
    }
    gauge('goldbed_troubles', 'Images, or the host itself, that are held back after failures.', [], (set) =>
      set({}, breaker.troubles().length),
    );
    const keyed = ['kind', 'backend', 'arch', 'size', 'image'] as const;
    gauge(
      'goldbed_queue_jobs',
      'Jobs of a queue. state: waiting, delayed, active.',
      [...keyed, 'state'],
      async (set) => {
        for (const { key, counts } of await queueDepths(redis)) {
          const parts = parseRoutingKey(key);
          if (parts === undefined) continue;
          for (const [state, count] of Object.entries(counts)) set({ ...parts, state }, count);
        }
      },
    );
    gauge('goldbed_queue_ready_seconds', 'For how long a queue has had work.', keyed, async (set) => {
      for (const { key, seconds } of await readyAges(redis)) {
        const parts = parseRoutingKey(key);
        if (parts !== undefined) set({ ...parts }, seconds);
      }
    });

    function gauge<Label extends string>(
      name: string,
      help: string,
      labelNames: readonly Label[],
      collect: (set: (labels: Partial<Record<Label, string>>, value: number) => void) => Promise<void> | void,
    ): void {
      const made = new Gauge({
        name,
        help,
        labelNames: [...labelNames],
        registers,
        async collect() {
          made.reset();
          await collect((labels, value) => made.set(labels as Record<Label, string>, value));
        },
      });
    }
  }

  /** Counts a job around its run. */
  async count(claimed: Claimed, run: () => Promise<Ending>): Promise<Ending> {
    const kind = kindOf(claimed);
    this.#wait.observe({ kind }, Math.max(0, (Date.now() - claimed.submitted) / 1000));
    const end = this.#seconds.startTimer({ kind });
    const ending = await run();
    end();
    this.#jobs.inc({ kind, outcome: ending.kind });
    return ending;
  }

  /** One that began in another process, which has counted its wait. @param claimed milliseconds since the epoch */
  countEnd(job: { readonly key: string; readonly claimed: number }, ending: Ending): void {
    const kind = kindOf(job);
    this.#seconds.observe({ kind }, Math.max(0, (Date.now() - job.claimed) / 1000));
    this.#jobs.inc({ kind, outcome: ending.kind });
  }
}

function kindOf({ key }: { readonly key: string }): string {
  return parseRoutingKey(key)?.kind ?? 'unknown';
}

/** Prometheus wants bytes. */
const measures = [
  { name: 'cpus', what: 'Processors', of: ({ cpus }: Resources) => cpus },
  { name: 'memory_bytes', what: 'Memory', of: ({ memory }: Resources) => memory * 1024 * 1024 },
  { name: 'disk_bytes', what: 'Disk', of: ({ disk }: Resources) => disk * 1024 * 1024 },
];

interface Depth {
  readonly key: string;
  readonly counts: Readonly<Record<'waiting' | 'delayed' | 'active', number>>;
}

async function queueDepths(redis: RedisHandle): Promise<Depth[]> {
  const keys = await knownKeys(redis);
  if (keys.length === 0) return [];
  const asked = redis.client.pipeline();
  for (const key of keys) {
    const queue = `${redis.keys.queues}:${key}`;
    asked.llen(`${queue}:wait`).zcard(`${queue}:prioritized`).zcard(`${queue}:delayed`).llen(`${queue}:active`);
  }
  const answers = ((await asked.exec()) ?? []).map(([, count]) => Number(count));
  return keys.map((key, index) => {
    const [wait = 0, prioritized = 0, delayed = 0, active = 0] = answers.slice(index * 4, index * 4 + 4);
    return { key, counts: { waiting: wait + prioritized, delayed, active } };
  });
}

async function readyAges({ client, keys }: RedisHandle): Promise<{ readonly key: string; readonly seconds: number }[]> {
  const found = await client.zrangebyscore(keys.ready, '-inf', '+inf');
  if (found.length === 0) return [];
  const since = await client.zmscore(keys.ready, ...found);
  return found.map((key, index) => ({ key, seconds: Math.max(0, (Date.now() - Number(since[index])) / 1000) }));
}
