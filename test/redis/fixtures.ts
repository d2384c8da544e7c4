/** A real embedded server in a state folder of its own, for one test file. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { sizesOf } from '../../src/config/sizes.ts';
import { stateAt, type State } from '../../src/config/state.ts';
import { connectRedis, type RedisHandle } from '../../src/redis/connect.ts';
import { acquireEmbedded } from '../../src/redis/embedded.ts';
import type { BuildRequest, JobRequest } from '../../src/protocol/job-request.ts';
import { presenceSchema, type Presence } from '../../src/protocol/presence.ts';
import { times } from '../../src/protocol/size.ts';
import { Ledger } from '../../src/worker/ledger.ts';
import { RenewalThread } from '../../src/worker/renewals.ts';
import type { Outcome } from '../../src/protocol/outcome.ts';

export interface TestRedis extends AsyncDisposable {
  readonly state: State;
  readonly redis: RedisHandle;
  readonly socketPath: string;
}

export async function startTestRedis(): Promise<TestRedis> {
  const state = await temporaryState();
  const embedded = await acquireEmbedded(state, new AbortController().signal);
  const redis = await connectRedis({ kind: 'embedded', socketPath: embedded.socketPath }, 'test');
  return {
    state,
    redis,
    socketPath: embedded.socketPath,
    async [Symbol.asyncDispose]() {
      await redis[Symbol.asyncDispose]();
      await embedded[Symbol.asyncDispose]();
      await rm(state.root, { recursive: true, force: true });
    },
  };
}

export async function temporaryState(): Promise<State> {
  return stateAt(await mkdtemp(path.join(tmpdir(), 'goldbed-redis-')));
}

export function buildRequest(name: string): BuildRequest & JobRequest {
  return { v: 1, kind: 'build', image: 'img', backend: 'any', source: { type: 'archive', package: name } };
}

export function presenceOf(host: string, incarnation: string, images: string[]): Presence {
  const identity = { pid: 1, started: '0', bootId: 'x' };
  return presenceSchema.parse({ host, incarnation, ...identity, slots: 1, images, since: 0 });
}

/** The thread, from its source. */
export function renewalsOf(redis: RedisHandle, log: (line: string) => void = console.error): RenewalThread {
  return new RenewalThread(redis, { log });
}

/** Room for so many jobs of size m. */
export function ledgerOf(slots: number): Ledger {
  return new Ledger(times(sizesOf().m, slots), sizesOf());
}

export const buildKey = 'build.any.amd64.m.img';

export function outcome(status = 'successful'): Outcome {
  return {
    v: 1,
    result: { kind: 'build', exitCode: 0, status },
    generation: { image: 'img', generation: 1, digest: 'sha256:0' },
    backend: 'overlay',
    host: 'here',
    attempt: 1,
    steps: [],
    artifacts: [],
    more: 0,
  };
}
