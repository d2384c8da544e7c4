/** Many hosts in one process, each with all that a worker has in Redis. */
import { sizesOf } from '../src/config/sizes.ts';
import { stateAt } from '../src/config/state.ts';
import { presenceSchema } from '../src/protocol/presence.ts';
import { routingKey, type RoutingKey } from '../src/protocol/routing.ts';
import { connectRedis } from '../src/redis/connect.ts';
import { subscribeNudges } from '../src/redis/nudges.ts';
import { knowQueue } from '../src/redis/ready.ts';
import { Breaker } from '../src/worker/breaker.ts';
import { Claims } from '../src/worker/claims.ts';
import { coordinate } from '../src/worker/coordinator.ts';
import { HostGuard } from '../src/worker/host-guard.ts';
import { openJournal } from '../src/worker/journal.ts';
import { Ledger } from '../src/worker/ledger.ts';
import { runLoop } from '../src/worker/loop.ts';
import { announce } from '../src/worker/presence.ts';

export interface Fleet extends AsyncDisposable {
  /** Queues that are known, each of them offered by every host. */
  readonly queues: number;
}

export async function joinFleet(
  server: { readonly root: string; readonly socketPath: string },
  hosts: number,
  images: number,
): Promise<Fleet> {
  const names = Array.from({ length: images }, (_, index) => `image${index}`);
  const keys = names.flatMap((image) =>
    (['build', 'test', 'update-golden'] as const).flatMap((kind) =>
      ['any', 'overlay'].map((backend) => routingKey(kind, backend, 'amd64', image)),
    ),
  );
  const joined: AsyncDisposable[] = [];
  for (let index = 0; index < hosts; index += 1) joined.push(await join(server, `host${index}`, names, keys));
  const redis = await connectRedis({ kind: 'embedded', socketPath: server.socketPath }, 'bench');
  for (const key of keys) await knowQueue(redis, key);
  await redis[Symbol.asyncDispose]();
  return {
    queues: keys.length,
    async [Symbol.asyncDispose]() {
      await Promise.all(joined.map((host) => host[Symbol.asyncDispose]()));
    },
  };
}

async function join(
  { root, socketPath }: { readonly root: string; readonly socketPath: string },
  host: string,
  images: string[],
  keys: readonly RoutingKey[],
): Promise<AsyncDisposable> {
  const redis = await connectRedis({ kind: 'embedded', socketPath }, 'bench');
  const nudges = await subscribeNudges(redis);
  const journal = await openJournal(stateAt(root));
  const { incarnation } = journal;
  const claims = new Claims(redis, journal);
  const log = (): void => {};
  const about = presenceSchema.parse({
    ...{ host, incarnation, images, slots: 1, since: 0 },
    ...{ pid: 1, started: '0', bootId: 'x' },
  });
  const presence = await announce(redis.client, redis.keys, () => about);
  const coordinator = coordinate({ redis, incarnation, claims, log });
  const guard = new HostGuard({ redis, host, breaker: new Breaker() });
  const stop = new AbortController();
  const running = runLoop(
    {
      ledger: new Ledger(sizesOf().m, sizesOf()),
      claims,
      offers: () => guard.allowed(keys),
      run: () => Promise.resolve(),
      onNudge: (wake) => nudges.listen((said) => void ('enqueued' in said && wake())),
      sweep: 15_000,
      log,
    },
    stop.signal,
  );
  return {
    async [Symbol.asyncDispose]() {
      stop.abort();
      await running;
      for (const part of [coordinator, presence, claims, journal, nudges, redis]) await part[Symbol.asyncDispose]();
    },
  };
}
