/**
 * Composition of a worker: joins Redis, the images, the backends and the loop. Used by `goldbed worker`, and by a waiting
 * command that finds no worker.
 */
import { reapPins } from '../golden/index.ts';
import { redisLeases } from '../golden/lease.ts';
import { Interruption } from '../protocol/errors.ts';
import { subscribeNudges, type Nudges } from '../redis/nudges.ts';
import { Breaker } from '../worker/breaker.ts';
import { Claims } from '../worker/claims.ts';
import { coordinate } from '../worker/coordinator.ts';
import { fleetTimes } from '../worker/fleet-times.ts';
import { diskObstacle } from '../worker/free-disk.ts';
import { handle, type Ending, type Gate, type Log } from '../worker/handle.ts';
import type { HealthOptions, HealthServer } from '../worker/health-server.ts';
import { openJournal } from '../worker/journal.ts';
import { runLoop } from '../worker/loop.ts';
import { HostGuard } from '../worker/host-guard.ts';
import type { Metrics, MeteredWorker } from '../worker/metrics.ts';
import { parkIfPaused } from '../worker/parked.ts';
import { announce } from '../worker/presence.ts';
import { recover } from '../worker/recover.ts';
import { keepRenewed } from '../worker/renewal.ts';
import { isScheduled } from '../worker/scheduled.ts';
import { Slots } from '../worker/slots.ts';
import { openRedis, type Context } from './context.ts';
import { applySchedules, beginOnSchedule, freshnessGate } from './freshness.ts';
import { expectedOn, makeHost } from './make-host.ts';
import { hostDescription } from './describe-host.ts';
import { offersOf } from './offers.ts';

export interface RunningWorker {
  /** `drain`: claims nothing more and ends when the running jobs have; `now`: gives them back. */
  stop(how: 'drain' | 'now'): void;
  readonly finished: Promise<void>;
}

/** Milliseconds between two looks at all queues, for what no nudge told. */
const sweep = 15_000;

/** Returns when the worker is ready to claim: it has announced itself and dealt with what dead ones left. */
export async function startWorker(
  context: Context,
  options: { readonly slots: number; readonly log: Log },
): Promise<RunningWorker> {
  const drain = new AbortController();
  const shutdown = new AbortController();
  const ready = resolvers();
  const finished = work(context, options, { drain: drain.signal, shutdown: shutdown.signal, ready: ready.resolve });
  await Promise.race([ready.promise, finished]);
  return {
    finished,
    stop(how) {
      drain.abort(new Interruption('shutdown'));
      if (how === 'now') shutdown.abort(new Interruption('shutdown'));
    },
  };
}

interface Control {
  readonly drain: AbortSignal;
  readonly shutdown: AbortSignal;
  readonly ready: () => void;
}

async function work(context: Context, options: { slots: number; log: Log }, control: Control): Promise<void> {
  const { state } = context;
  await using redis = await openRedis(context, control.drain);
  await using nudges = await subscribeNudges(redis);
  await using journal = await openJournal(state);
  await using claims = new Claims(redis, journal);
  const times = fleetTimes(context.settings.fleet.heartbeat);
  const leases = (owner: string) => redisLeases(redis, { owner, ttl: times.lease });
  const { host, backends } = makeHost(context, journal.folder, leases);
  const { log } = options;
  await recover(
    state,
    claims,
    backends.map((backend) => () => backend.reap()),
    log,
  );
  await reapPins(state);
  await applySchedules(context, redis, log);
  const { incarnation } = journal;
  const slots = new Slots(options.slots);
  const breaker = new Breaker();
  const guard = new HostGuard({
    ...{ redis, host: host.name, breaker, log },
    obstacle: () => diskObstacle(host),
    expected: (image, choice) => expectedOn(context, backends, image, choice),
  });
  const describe = await hostDescription(context, { incarnation, slots, guard, backends });
  await using presence = await announce(redis.client, redis.keys, describe, times);
  await using _ = coordinate({ redis, incarnation, claims, log, times });
  using gate = freshnessGate(context, { redis, claims, nudges, host: host.name });
  const { metrics: port } = context.settings.worker;
  const meter = { redis, host: host.name, slots, breaker, notReady: () => guard.notReady() };
  await using metered = port === undefined ? undefined : await serveMetrics(port, meter);
  if (metered !== undefined) log(`metrics on http://127.0.0.1:${metered.port}/metrics`);
  const offers = offersOf(context, backends, presence);
  log(`worker on ${host.name} with ${options.slots} ${options.slots === 1 ? 'slot' : 'slots'}, state in ${state.root}`);
  control.ready();
  await runLoop(
    {
      slots,
      claims,
      offers: async () => guard.allowed(await offers()),
      run: async (claimed) => {
        if (isScheduled(claimed)) return beginOnSchedule(claimed, redis, log);
        using renewal = keepRenewed(claimed, redis, nudges, control.shutdown);
        const jobLog: Log = (line, details) => log(line, { job: claimed.runId, queue: claimed.key, ...details });
        const admit: Gate = async (job, request) =>
          !(await parkIfPaused(redis, claims, job)) && gate.admit(job, request);
        const run = (): Promise<Ending> => handle(claimed, host, admit, renewal.signal, jobLog);
        await guard.run(claimed, () => metered?.metrics.count(claimed, run) ?? run());
      },
      onNudge: (wake) => both(listenForWork(nudges, host.name, wake), guard.listen(wake)),
      sweep,
      log,
    },
    control.drain,
  );
  log('worker stopped');
}

/** Loaded only where it is asked for: most workers are those of one waiting command. */
async function serveMetrics(
  port: number,
  { notReady, ...worker }: MeteredWorker & Pick<HealthOptions, 'notReady'>,
): Promise<HealthServer & { readonly metrics: Metrics }> {
  const { Metrics } = await import('../worker/metrics.ts');
  const { startHealthServer } = await import('../worker/health-server.ts');
  const metrics = new Metrics(worker);
  return { ...(await startHealthServer({ port, registry: metrics.registry, notReady })), metrics };
}

function listenForWork(nudges: Nudges, host: string, wake: () => void): () => void {
  return nudges.listen((nudge) => {
    if ('enqueued' in nudge || ('host' in nudge && nudge.host === host)) wake();
  });
}

function both(one: () => void, other: () => void): () => void {
  return () => {
    one();
    other();
  };
}

/** Node 20 has no Promise.withResolvers. */
function resolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => {};
  const promise = new Promise<void>((done) => (resolve = done));
  return { promise, resolve };
}
