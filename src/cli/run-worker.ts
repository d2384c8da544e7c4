/**
 * Composition of a worker: joins Redis, the images, the backends and what it does while it is in charge. Used by `goldbed
 * worker`, and by a waiting command that finds no worker.
 */
import type { ProcessIdentity } from '../exec/process-identity.ts';
import { resolvers } from '../exec/resolvers.ts';
import { Interruption } from '../protocol/errors.ts';
import type { Resources } from '../protocol/size.ts';
import { endWithout } from '../redis/end-without.ts';
import { subscribeNudges } from '../redis/nudges.ts';
import { Breaker } from '../worker/breaker.ts';
import { fleetTimes } from '../worker/fleet-times.ts';
import type { Log } from '../worker/handle.ts';
import { journalFolder, newIncarnation, openJournal } from '../worker/journal.ts';
import { diskObstacle } from '../worker/free-disk.ts';
import { HostGuard } from '../worker/host-guard.ts';
import { Keeper } from '../worker/keeper.ts';
import { Ledger } from '../worker/ledger.ts';
import { checkSocketFolder } from '../worker/served-session.ts';
import { takeOver, type Inheritance } from '../worker/succession.ts';
import { openRedis, type Context } from './context.ts';
import { hostDescription } from './describe-host.ts';
import { beInCharge, type Control } from './in-charge.ts';
import { jobLeases } from './leases.ts';
import { expectedOn, makeHost } from './make-host.ts';

export interface WorkerOptions {
  /** What its jobs may take together. */
  readonly capacity: Resources;
  readonly log: Log;
  /** It is here for longer than one job. */
  readonly resident?: boolean;
  /** Hears the run's id of each job that begins here. */
  readonly onBegin?: ((runId: string) => void) | undefined;
  /** The incarnation of a running worker that this process takes over. */
  readonly succeeds?: string | undefined;
  /** The process that obeys SIGHUP. */
  readonly main?: ProcessIdentity | undefined;
  /** Called when a successor takes over. */
  readonly onPassed?: () => void;
}

export interface RunningWorker {
  readonly incarnation: string;
  /** `drain`: claims nothing more and ends when the running jobs have; `now`: gives them back. */
  stop(how: 'drain' | 'now'): void;
  /** `passed`: a successor is in charge; what ran here has ended. */
  readonly finished: Promise<'ended' | 'passed'>;
}

/** Returns when the worker is ready to claim: it has announced itself and dealt with what dead ones left. */
export async function startWorker(context: Context, options: WorkerOptions): Promise<RunningWorker> {
  const drain = new AbortController();
  const shutdown = new AbortController();
  const ready = resolvers();
  const incarnation = options.succeeds ?? newIncarnation();
  const control = { drain: drain.signal, shutdown: shutdown.signal, ready: ready.resolve };
  const finished = work(context, incarnation, options, control);
  await Promise.race([ready.promise, finished]);
  return {
    incarnation,
    finished,
    stop(how) {
      drain.abort(new Interruption('shutdown'));
      if (how === 'now') shutdown.abort(new Interruption('shutdown'));
    },
  };
}

async function work(
  context: Context,
  incarnation: string,
  { capacity, log, resident = false, succeeds, main, onBegin, onPassed }: WorkerOptions,
  control: Control,
): Promise<'ended' | 'passed'> {
  const { state, settings } = context;
  checkSocketFolder(journalFolder(state, incarnation));
  await using connection = await openRedis(context, control.drain);
  const redis = { ...connection, hurry: control.shutdown };
  using silence = endWithout(redis, control.shutdown);
  void silence;
  await using nudges = await subscribeNudges(redis);
  const times = fleetTimes(settings.fleet.heartbeat);
  const leases = jobLeases(state, redis, times.lease, log);
  const { host, backends } = makeHost(context, journalFolder(state, incarnation), leases, log);
  const ledger = new Ledger(capacity, settings.sizes);
  const breaker = new Breaker();
  const guard = new HostGuard({
    ...{ redis, host: host.name, breaker, log },
    obstacle: () => diskObstacle(host),
    expected: (image, choice) => expectedOn(context, backends, image, choice),
  });
  const describe = await hostDescription(context, { incarnation, ledger, guard, backends });
  await describe(); // before this process is in charge it may fail
  const inheritance =
    succeeds === undefined ? await inheritNothing(context, incarnation, main) : await takeOver(state, incarnation);
  await using journal = inheritance.journal;
  using _ = { [Symbol.dispose]: () => letGo(inheritance) };
  await using keeper = await Keeper.open(journal.folder);
  const rest = await beInCharge(
    {
      ...{ context, redis, nudges, journal, keeper, inheritance, host, backends },
      ledger,
      breaker,
      guard,
      describe,
      times,
      log,
      onBegin,
      resident,
    },
    control,
  );
  if (rest === undefined) return 'ended';
  onPassed?.();
  keeper.answer();
  keeper.lost.addEventListener('abort', () => letGo(inheritance));
  if (keeper.lost.aborted) letGo(inheritance);
  // the older keepers take a closed link for the death of whoever is in charge, until they have been asked by another
  await Promise.all([rest.ended, ...inheritance.links.map((link) => link.closed)]);
  return 'passed';
}

async function inheritNothing(
  { state }: Context,
  incarnation: string,
  main: ProcessIdentity | undefined,
): Promise<Inheritance> {
  return { journal: await openJournal(state, { incarnation, main }), links: [], jobs: [], left: [] };
}

function letGo({ links }: Inheritance): void {
  for (const link of links) link[Symbol.dispose]();
}
