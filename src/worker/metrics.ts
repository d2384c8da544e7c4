/** What a worker counts, as Prometheus reads it. Names and units follow prometheus.io/docs/practices/naming. */
import { Counter, Histogram, Registry } from 'prom-client';
import { parseRoutingKey } from '../protocol/routing.ts';
import type { Resources } from '../protocol/size.ts';
import type { RedisHandle } from '../redis/connect.ts';
import type { Breaker } from './breaker.ts';
import type { Claimed } from './claimed.ts';
import { endedAs, watchEnding, type Ended } from './ending.ts';
import { fleetMetrics } from './fleet-metrics.ts';
import { gauge } from './gauge.ts';
import type { Settlement } from './handover.ts';
import type { Ledger } from './ledger.ts';

export interface MeteredWorker {
  readonly redis: RedisHandle;
  readonly host: string;
  readonly incarnation: string;
  readonly ledger: Ledger;
  readonly breaker: Breaker;
  /** Jobs that this host has put off until a refresh ends. */
  readonly refreshWaits: () => number;
  /** When each image of this host was last refreshed, or found up to date (ms since the epoch). */
  readonly refreshed: () => Promise<ReadonlyMap<string, number>>;
}

export class Metrics {
  readonly registry = new Registry();
  readonly #jobs = this.#counter(
    'goldbed_jobs_total',
    'Claims that have ended here. outcome: the verdict (successful, pass, published...), retried (the testbed failed), ' +
      'infrastructure (its budget is spent), cancelled, lost, returned (to the queue, unrun), usage, internal.',
    ['kind', 'outcome'],
  );
  readonly #refreshes = this.#counter('goldbed_refreshes_total', 'Updates of images that have ended here.', [
    'image',
    'outcome',
  ]);
  readonly #failures = this.#counter(
    'goldbed_infrastructure_failures_total',
    'Attempts that failed here for no fault of the package. backend: as the job asked for it.',
    ['kind', 'backend', 'image'],
  );
  readonly #wait: Histogram<'kind'>;
  readonly #seconds: Histogram<'kind'>;

  constructor(worker: MeteredWorker) {
    const registers = [this.registry];
    const labelNames = ['kind'] as const;
    this.registry.setDefaultLabels({ host: worker.host });
    this.#wait = new Histogram({
      name: 'goldbed_claim_wait_seconds',
      help: 'From handing in to the first claim.',
      labelNames,
      buckets: [0.05, 0.25, 1, 5, 30, 300, 3600, 36_000],
      registers,
    });
    this.#seconds = new Histogram({
      name: 'goldbed_job_seconds',
      help: 'From the claim to the end.',
      labelNames,
      buckets: [1, 5, 30, 120, 600, 3600, 14_400, 36_000],
      registers,
    });
    hostMetrics(this.registry, worker);
    fleetMetrics(this.registry, worker.redis, worker.incarnation);
  }

  /** Counts a job around its run. @param run is given what it must use in the place of the claim */
  async count<T>(claimed: Claimed, run: (watched: Claimed) => Promise<T>): Promise<T> {
    const kind = kindOf(claimed.key);
    if (claimed.attempt === 1) this.#wait.observe({ kind }, Math.max(0, (Date.now() - claimed.submitted) / 1000));
    const watched = watchEnding(claimed);
    const end = this.#seconds.startTimer({ kind });
    const result = await run(watched.claimed);
    const ended = watched.ending();
    if (ended === undefined) return result;
    end();
    this.#ended(claimed.key, ended);
    return result;
  }

  /**
   * One that began in another process, which has counted its wait.
   * @param job `claimed`: milliseconds since the epoch @param settlement undefined: its process died
   */
  countAdopted(job: { readonly key: string; readonly claimed: number }, settlement: Settlement | undefined): void {
    this.#seconds.observe({ kind: kindOf(job.key) }, Math.max(0, (Date.now() - job.claimed) / 1000));
    this.#ended(job.key, endedAs(settlement));
  }

  #ended(key: string, ended: Ended): void {
    const { kind = 'unknown', backend = '', image = '' } = parseRoutingKey(key) ?? {};
    this.#jobs.inc({ kind, outcome: ended.word });
    if (kind === 'update-golden') this.#refreshes.inc({ image, outcome: ended.word });
    if (isInfrastructure(ended)) this.#failures.inc({ kind, backend, image });
  }

  #counter<Label extends string>(name: string, help: string, labelNames: readonly Label[]): Counter<Label> {
    return new Counter({ name, help, labelNames: [...labelNames], registers: [this.registry] });
  }
}

function kindOf(key: string): string {
  return parseRoutingKey(key)?.kind ?? 'unknown';
}

function isInfrastructure({ word, failure }: Ended): boolean {
  return word === 'retried' || failure?.class === 'infrastructure';
}

function hostMetrics(registry: Registry, { ledger, breaker, refreshWaits, refreshed }: MeteredWorker): void {
  const simple = (name: string, help: string, value: () => number): void =>
    gauge(registry, { name, help, labels: [] }, (set) => set({}, value()));
  simple('goldbed_slots', 'Slots of this host.', () => ledger.slots);
  simple('goldbed_slots_busy', 'Slots that are taken.', () => ledger.busy);
  for (const { name, what, of } of measures) {
    simple(`goldbed_${name}`, `${what} for jobs.`, () => of(ledger.capacity));
    simple(`goldbed_reserved_${name}`, `${what} that running jobs have reserved.`, () => of(ledger.reserved));
  }
  const troubles = 'Images, or the host itself, that are held back after failures.';
  simple('goldbed_troubles', troubles, () => breaker.troubles().length);
  simple('goldbed_refresh_waiting_jobs', 'Jobs that this host has put off until a refresh ends.', refreshWaits);
  const name = 'goldbed_image_refreshed_timestamp_seconds';
  const help = 'When an image of this host was last refreshed, or found up to date.';
  gauge(registry, { name, help, labels: ['image'] }, async (set) => {
    for (const [image, time] of await refreshed()) set({ image }, time / 1000);
  });
}

/** Prometheus wants bytes. */
const measures = [
  { name: 'cpus', what: 'Processors', of: ({ cpus }: Resources) => cpus },
  { name: 'memory_bytes', what: 'Memory', of: ({ memory }: Resources) => memory * 1024 * 1024 },
  { name: 'disk_bytes', what: 'Disk', of: ({ disk }: Resources) => disk * 1024 * 1024 },
];
