/**
 * What only the process in charge of a worker does: claim, tell the fleet that it lives, look after the queues, settle
 * jobs. It ends with the worker, or when a successor takes over; what runs here goes on then, without all this.
 */
import type { Backend } from '../backends/backend.ts';
import { imageNames } from '../golden/index.ts';
import type { Presence } from '../protocol/presence.ts';
import { parseRoutingKey } from '../protocol/routing.ts';
import { describeResources, usualSize } from '../protocol/size.ts';
import type { RedisHandle } from '../redis/connect.ts';
import type { Nudges } from '../redis/nudges.ts';
import { durabilityWarning } from '../redis/durability.ts';
import { insist, persist } from '../redis/persist.ts';
import { redisTime } from '../redis/time.ts';
import type { Breaker } from '../worker/breaker.ts';
import { claimUntilPassed, type Rest } from '../worker/claim-until-passed.ts';
import { Claims } from '../worker/claims.ts';
import { coordinate } from '../worker/coordinator.ts';
import type { FleetTimes } from '../worker/fleet-times.ts';
import { follow } from '../worker/follow.ts';
import type { Ending, Log } from '../worker/handle.ts';
import type { Host } from '../worker/host.ts';
import type { HostGuard } from '../worker/host-guard.ts';
import type { Journal } from '../worker/journal.ts';
import type { AdoptedJob } from '../worker/keeper-link.ts';
import type { Keeper } from '../worker/keeper.ts';
import type { Metrics } from '../worker/metrics.ts';
import { announce } from '../worker/presence.ts';
import { recover, recoverEntries, type Settling } from '../worker/recover.ts';
import { runClaimed } from '../worker/run-claimed.ts';
import { keepRenewed, type RenewalParts } from '../worker/renewal.ts';
import { RenewalThread } from '../worker/renewals.ts';
import type { Ledger } from '../worker/ledger.ts';
import { isScheduled } from '../worker/scheduled.ts';
import type { Inheritance } from '../worker/succession.ts';
import { tidyDaily } from '../worker/tidy.ts';
import type { Context } from './context.ts';
import { flattenLater } from './flattening.ts';
import { applySchedules, beginOnSchedule, freshnessGate } from './freshness.ts';
import { offersOf } from './offers.ts';
import { serveMetrics } from './serve-metrics.ts';

export interface Control {
  readonly drain: AbortSignal;
  readonly shutdown: AbortSignal;
  readonly ready: () => void;
}

export interface Parts {
  readonly context: Context;
  readonly redis: RedisHandle;
  readonly nudges: Nudges;
  readonly journal: Journal;
  readonly keeper: Keeper;
  readonly inheritance: Inheritance;
  readonly host: Host;
  readonly backends: readonly Backend[];
  readonly ledger: Ledger;
  readonly breaker: Breaker;
  readonly guard: HostGuard;
  readonly describe: () => Promise<Presence>;
  readonly times: FleetTimes;
  readonly log: Log;
  readonly onBegin: ((runId: string) => void) | undefined;
  /** It is here for longer than one job: what others have left undone is its business, too. */
  readonly resident: boolean;
}

/** Milliseconds between two looks at all queues, for what no nudge told. */
const sweep = 15_000;

/** @returns undefined when all has ended; else a successor waits for the keeper's answer */
export async function beInCharge(parts: Parts, control: Control): Promise<Rest | undefined> {
  const { context, redis, nudges, journal, keeper, inheritance, host, guard, ledger, times, log } = parts;
  const { incarnation } = journal;
  await using claims = new Claims(redis, journal);
  await using renewals = new RenewalThread(redis, { log });
  const renewed = { redis, nudges, renewals };
  const { clearAway, giveUp } = recovering(parts, claims);
  const counted: { metrics?: Metrics | undefined } = {}; // there are none yet
  const concluded = async (job: AdoptedJob, ending: Ending): Promise<void> => {
    counted.metrics?.countAdopted(job.handed, await job.ending);
    await guard.ended(job.handed, ending);
  };
  // before anything is awaited: until the claims know of these tokens, they take them for lost ones
  const adopted = followAll(parts, { claims, renewed, clearAway, giveUp, shutdown: control.shutdown }, concluded);
  // before anything that may take long: the process that was in charge does not say any more that the worker lives
  await using presence = await outlasting(parts)(redis, () =>
    announce(redis.client, redis.keys, parts.describe, times, renewals),
  );
  await clearAway();
  await giveUp(inheritance.left.map(({ name }) => name));
  await applySchedules(context, redis, log);
  using tidying = tidyDaily(context.state, context.settings.jobs.keep * 1000, () => redisTime(redis.client), log);
  void tidying;
  await using _ = coordinate({ redis, incarnation, claims, log, times });
  using gate = freshnessGate(context, { redis, claims, nudges, host: host.name });
  await using metered = await serveMetrics(parts, () => gate.waiting);
  const warning = await durabilityWarning(redis);
  if (warning !== undefined) log(warning);
  const { metrics } = metered;
  counted.metrics = metrics;
  const offers = offersOf(context, { backends: parts.backends, sizes: ledger.takes }, presence);
  log(`worker on ${host.name} with ${roomOf(ledger)}, state in ${context.state.root}`);
  if (adopted.length > 0) log(`adopted ${adopted.length} running ${adopted.length === 1 ? 'job' : 'jobs'}`);
  const flatten = (images: readonly string[]): Promise<void> => flattenLater(context, images, log).catch(() => {}); // asked again
  if (parts.resident) await flatten(await imageNames(context.state));
  control.ready();
  const rest = await claimUntilPassed(
    {
      ledger,
      claims,
      offers: async () => guard.allowed(await offers()),
      run: async (claimed) => {
        if (isScheduled(claimed)) {
          using whole = keeper.busy.hold();
          void whole;
          return await beginOnSchedule(claimed, redis, log);
        }
        using job = keeper.begin(claimed, keepRenewed(claimed, renewed, control.shutdown));
        await runClaimed({ redis, claims, host, guard, fresh: gate, metrics, log, onBegin: parts.onBegin }, job);
        const { kind, image } = parseRoutingKey(claimed.key) ?? {};
        if (kind === 'update-golden' && image !== undefined) await flatten([image]);
      },
      onNudge: (wake) => both(listenForWork(nudges, host.name, wake), guard.listen(wake)),
      sweep,
      log,
    },
    { keeper, adopted, drain: control.drain },
  );
  if (rest === undefined) {
    log('worker stopped');
    return undefined;
  }
  presence.passOn();
  journal.passOn();
  return rest;
}

function roomOf({ slots, capacity, takes }: Ledger): string {
  return `${slots} ${slots === 1 ? 'slot' : 'slots'} (${describeResources(capacity)}; takes ${takes.join(', ')})`;
}

interface Following extends Recovering {
  readonly claims: Claims;
  readonly renewed: RenewalParts;
  readonly shutdown: AbortSignal;
}

function followAll(
  { inheritance, keeper, ledger, log }: Parts,
  { claims, renewed, clearAway, giveUp, shutdown }: Following,
  concluded: (job: AdoptedJob, ending: Ending) => Promise<void>,
): Promise<void>[] {
  return inheritance.jobs.map(async (job) => {
    using room = ledger.take(parseRoutingKey(job.handed.key)?.size ?? usualSize);
    void room;
    const ending = await follow(job, {
      ...{ claims, keeper, log },
      renew: (claimed) => keepRenewed(claimed, renewed, shutdown),
      recover: async ({ entry }) => {
        await clearAway();
        await giveUp([entry]);
      },
    });
    if (!keeper.passed.aborted) await concluded(job, ending);
  });
}

interface Recovering {
  /** What dead workers left. Never rejects. */
  readonly clearAway: () => Promise<void>;
  /** Claims of this worker, by their names in the journal. */
  readonly giveUp: (entries: readonly string[]) => Promise<void>;
}

/**
 * Adopted jobs must not die of what Redis says; where there are none, whoever starts the worker is told of a refusal.
 */
function outlasting({ inheritance }: Parts): typeof insist {
  return inheritance.jobs.length > 0 ? insist : persist;
}

/** Both outlast a broken connection. */
function recovering(parts: Parts, claims: Claims): Recovering {
  const { redis, journal, backends, log } = parts;
  const { state } = parts.context;
  const outlast = outlasting(parts);
  const settling: Settling = {
    giveBackToken: (key, token) => outlast(redis, () => claims.giveBackToken(key, token)),
    completeFor: (key, token, ended) => outlast(redis, () => claims.completeFor(key, token, ended)),
  };
  return {
    clearAway: () => recover(state, settling, backends, log),
    giveUp: (entries) => recoverEntries(journal, entries, settling, log),
  };
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
