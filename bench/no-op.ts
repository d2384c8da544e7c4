/**
 * A worker whose jobs do nothing: all that a real one does for a job but its session. Claims, journal, loop, offers, guard,
 * renewal, gate, the attempt's folder and result are the real ones.
 */
import { existsSync, mkdirSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { nativeBackends } from '../src/backends/index.ts';
import { offersOf } from '../src/cli/offers.ts';
import { freshnessGate } from '../src/cli/freshness.ts';
import { hostDescription } from '../src/cli/describe-host.ts';
import { loadSettings } from '../src/config/load.ts';
import { stateAt } from '../src/config/state.ts';
import { jobRequestSchema, type JobRequest } from '../src/protocol/job-request.ts';
import type { Outcome } from '../src/protocol/outcome.ts';
import { connectRedis, type RedisHandle } from '../src/redis/connect.ts';
import { subscribeNudges } from '../src/redis/nudges.ts';
import { Breaker } from '../src/worker/breaker.ts';
import { Claims } from '../src/worker/claims.ts';
import { coordinate } from '../src/worker/coordinator.ts';
import type { Host } from '../src/worker/host.ts';
import { HostGuard } from '../src/worker/host-guard.ts';
import { openJournal } from '../src/worker/journal.ts';
import { runLoop } from '../src/worker/loop.ts';
import { announce } from '../src/worker/presence.ts';
import { runClaimed } from '../src/worker/run-claimed.ts';
import { Ledger } from '../src/worker/ledger.ts';
import { Keeper } from '../src/worker/keeper.ts';
import { keepRenewed } from '../src/worker/renewal.ts';
import { RenewalThread } from '../src/worker/renewals.ts';
import { times, usualSize } from '../src/protocol/size.ts';
import { countTrips } from './queue-server.ts';

export interface NoOpWorker extends AsyncDisposable {
  readonly redis: RedisHandle;
  /** Round trips to Redis so far. */
  readonly trips: () => number;
}

export interface NoOpOptions {
  readonly root: string;
  readonly socketPath: string;
  readonly name: string;
  readonly slots: number;
  readonly images: readonly string[];
  /** What a job does: nothing, but perhaps say so. */
  readonly job?: () => Promise<void> | void;
  /** Called when all has been done for a job. */
  readonly ended?: () => void;
}

export async function startNoOpWorker(options: NoOpOptions): Promise<NoOpWorker> {
  const { root, socketPath, name } = options;
  const state = stateAt(root);
  const context = { state, settings: loadSettings({ GOLDBED_STATE: root, GOLDBED_HOST: name }, 0) };
  for (const image of options.images) pretendImage(path.join(state.images, image));
  const redis = await connectRedis({ kind: 'embedded', socketPath }, 'bench');
  const trips = countTrips(redis);
  const nudges = await subscribeNudges(redis);
  const journal = await openJournal(state);
  const { incarnation } = journal;
  const claims = new Claims(redis, journal);
  const { sizes } = context.settings;
  const ledger = new Ledger(times(sizes[usualSize], options.slots), sizes);
  const breaker = new Breaker();
  const keeper = await Keeper.open(journal.folder);
  const backends = nativeBackends(state, context.settings);
  const guard = new HostGuard({ redis, host: name, breaker });
  const describe = await hostDescription(context, { incarnation, ledger, guard, backends });
  const renewals = new RenewalThread(redis, { log: () => {} });
  const presence = await announce(redis.client, redis.keys, describe, undefined, renewals);
  const coordinator = coordinate({ redis, incarnation, claims, log: () => {} });
  const fresh = freshnessGate(context, { redis, claims, nudges, host: name });
  const host = { name, state } as Host; // no session, so that nothing else of it is asked
  const stop = new AbortController();
  const shared = { redis, claims, host, guard, fresh, metrics: undefined, log: () => {} };
  const run = async (): Promise<Outcome> => {
    await options.job?.();
    return outcome;
  };
  const offers = offersOf(context, { backends, sizes: ledger.takes }, presence);
  const running = runLoop(
    {
      ledger,
      claims,
      offers: async () => guard.allowed(await offers()),
      async run(claimed) {
        {
          using job = keeper.begin(claimed, keepRenewed(claimed, { redis, nudges, renewals }, stop.signal));
          await runClaimed({ ...shared, run }, job);
        }
        options.ended?.();
      },
      onNudge: (wake) => nudges.listen((said) => void ('enqueued' in said && wake())),
      sweep: 15_000,
      log: () => {},
    },
    stop.signal,
  );
  return {
    redis,
    trips,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await running;
      fresh[Symbol.dispose]();
      for (const part of [coordinator, presence, renewals, claims, keeper, journal, nudges, redis])
        await part[Symbol.asyncDispose]();
    },
  };
}

/** As far as the offers look. */
function pretendImage(folder: string): void {
  if (existsSync(folder)) return;
  mkdirSync(path.join(folder, 'generations', '1'), { recursive: true });
  symlinkSync('generations/1', path.join(folder, 'head'));
}

export function noOpRequest(name: string, image: string): JobRequest {
  const source = { type: 'archive', package: name, version: '1.0-1' };
  return jobRequestSchema.parse({ v: 1, kind: 'build', image, source });
}

export const outcome: Outcome = {
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
