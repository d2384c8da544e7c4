/**
 * Composition of a worker: joins Redis, the images, the backends and the loop. Used by `goldbed worker`, and by a waiting
 * command that finds no worker.
 */
import { hostname } from 'node:os';
import { identityOf } from '../exec/process-identity.ts';
import { redisLeases } from '../golden/lease.ts';
import { Interruption } from '../protocol/errors.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { subscribeNudges, type Nudges } from '../redis/nudges.ts';
import { Claims } from '../worker/claims.ts';
import { handle, type Log } from '../worker/handle.ts';
import { openJournal } from '../worker/journal.ts';
import { runLoop } from '../worker/loop.ts';
import { announce, type Announced } from '../worker/presence.ts';
import { recover } from '../worker/recover.ts';
import { keepRenewed } from '../worker/renewal.ts';
import { Slots } from '../worker/slots.ts';
import { openRedis, type Context } from './context.ts';
import { makeHost } from './make-host.ts';
import { knownImages, offersOf } from './offers.ts';

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
  const { host, backends } = makeHost(context, journal.folder, (job) => redisLeases(redis, { owner: job }));
  const { log } = options;
  await recover(
    state,
    claims,
    backends.map((backend) => () => backend.reap()),
    log,
  );
  await using presence = await announceWorker(context, redis, options.slots);
  log(`worker on ${host.name} with ${options.slots} ${options.slots === 1 ? 'slot' : 'slots'}, state in ${state.root}`);
  control.ready();
  await runLoop(
    {
      slots: new Slots(options.slots),
      claims,
      offers: offersOf(context, backends, presence),
      run: async (claimed) => {
        using renewal = keepRenewed(claimed, redis, nudges, control.shutdown);
        await handle(claimed, host, renewal.signal, log);
      },
      onNudge: (wake) => listenForWork(nudges, wake),
      sweep,
      log,
    },
    control.drain,
  );
  log('worker stopped');
}

function listenForWork(nudges: Nudges, wake: () => void): () => void {
  return nudges.listen((nudge) => {
    if ('enqueued' in nudge) wake();
  });
}

async function announceWorker(context: Context, redis: RedisHandle, slots: number): Promise<Announced> {
  const identity = identityOf();
  if (identity === undefined) throw new Error('cannot read /proc/self/stat');
  const images = await knownImages(context);
  const presence = { host: hostname(), ...identity, slots, images: [...images], since: Date.now() };
  return announce(redis.client, redis.keys, presence);
}

/** Node 20 has no Promise.withResolvers. */
function resolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => {};
  const promise = new Promise<void>((done) => (resolve = done));
  return { promise, resolve };
}
