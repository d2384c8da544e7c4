/**
 * Claiming jobs: the one file of the worker that touches BullMQ. Jobs are fetched by hand, without blocking, on one
 * connection for all queues; BullMQ then renews nothing by itself (renewal.ts does).
 */
import { randomUUID } from 'node:crypto';
import {
  createRedisBackend,
  UnrecoverableError,
  Worker,
  type BackendFactory,
  type Job,
  type RedisQueueBackend,
} from 'bullmq';
import { LeaseLost } from '../protocol/errors.ts';
import { outcomeSchema, type Outcome } from '../protocol/outcome.ts';
import type { RoutingKey } from '../protocol/routing.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { nudge } from '../redis/nudges.ts';
import type { Journal } from './journal.ts';

/** Milliseconds for which a claim holds without renewal. */
export const lockDuration = 600_000;

/** Milliseconds before a failed attempt is tried again; the producer gives jobs the same (retryDelay in enqueue.ts). */
const retrySoon = 2_000;

export interface Claimed {
  readonly runId: string;
  readonly key: RoutingKey;
  /** Whatever somebody put into the queue. */
  readonly data: unknown;
  /** Milliseconds since the epoch. */
  readonly submitted: number;
  /** False when the claim is lost. Rejects when Redis is away. */
  renew(): Promise<boolean>;
  /** Each of these ends the claim. @throws {LeaseLost} when it was not ours any more */
  complete(outcome: Outcome): Promise<void>;
  fail(error: Error, how: { retry: boolean }): Promise<void>;
  giveBack(): Promise<void>;
}

export class Claims implements AsyncDisposable {
  readonly #redis: RedisHandle;
  readonly #journal: Journal;
  readonly #workers = new Map<RoutingKey, Worker>();
  /** Journalled tokens that hold nothing: their last claim came back empty. */
  readonly #spare = new Map<RoutingKey, Token>();
  #due: number | undefined;

  constructor(redis: RedisHandle, journal: Journal) {
    this.#redis = redis;
    this.#journal = journal;
  }

  /** The time (ms since the epoch) at which a job that failed here is to be tried again. */
  nextDue(): number | undefined {
    return this.#due !== undefined && this.#due > Date.now() ? this.#due : undefined;
  }

  /** Undefined when nothing waits there. */
  async claim(key: RoutingKey): Promise<Claimed | undefined> {
    const worker = this.#workerOf(key);
    const token = this.#spare.get(key) ?? (await this.#newToken(key));
    this.#spare.delete(key);
    const job = (await worker.getNextJob(token.text, { block: false })) as Job | undefined;
    if (job === undefined) {
      this.#spare.set(key, token);
      return undefined;
    }
    const claimed = this.#claimed(job, key, token);
    if (!job.deferredFailure) return claimed;
    // BullMQ hands out a job that was lost too often once more, with the verdict in this field
    await claimed.fail(new Error(job.deferredFailure), { retry: false });
    return this.claim(key);
  }

  /** Puts back what a dead worker's token holds. @returns the run ids */
  async giveBackToken(key: RoutingKey, token: string): Promise<string[]> {
    const queue = this.#workerOf(key);
    const prefix = `${this.#redis.keys.queues}:${key}`;
    const active = await this.#redis.client.lrange(`${prefix}:active`, 0, -1);
    const held: string[] = [];
    for (const id of active) {
      if ((await this.#redis.client.get(`${prefix}:${id}:lock`)) !== token) continue;
      await queue.backend.moveJobFromActiveToWait(id, token);
      await nudge(this.#redis, { enqueued: key });
      held.push(id);
    }
    return held;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const token of this.#spare.values()) await token.strike();
    for (const worker of this.#workers.values()) await worker.close(true);
  }

  #claimed(job: Job, key: RoutingKey, token: Token): Claimed {
    const runId = String(job.id);
    const settle = async (end: () => Promise<unknown>): Promise<void> => {
      try {
        await end();
      } catch (error) {
        if (isLockLost(error)) throw new LeaseLost(`${runId}: the claim was lost`, { cause: error });
        throw error;
      } finally {
        await token.strike();
      }
      await nudge(this.#redis, { ended: runId });
    };
    return {
      runId,
      key,
      data: job.data,
      submitted: job.timestamp,
      renew: async () => (await job.extendLock(token.text, lockDuration)) === 1,
      complete: (outcome) => settle(() => job.moveToCompleted(outcomeSchema.parse(outcome), token.text, false)),
      fail: (error, { retry }) =>
        settle(async () => {
          if (retry) this.#due = Date.now() + retrySoon + 50;
          await job.moveToFailed(retry ? error : unrecoverable(error), token.text, false);
        }),
      giveBack: () => settle(() => job.moveToWait(token.text)),
    };
  }

  async #newToken(key: RoutingKey): Promise<Token> {
    const text = `${this.#journal.incarnation}.${randomUUID()}`;
    return { text, strike: await this.#journal.write({ key, token: text }) };
  }

  #workerOf(key: RoutingKey): Worker {
    const known = this.#workers.get(key);
    if (known !== undefined) return known;
    const options = {
      connection: this.#redis.client,
      prefix: this.#redis.keys.queues,
      autorun: false,
      lockDuration,
      maxStalledCount: 100, // cumulative over a job's life, and a job may run for ten hours
    };
    const worker = new Worker(key, undefined, options, withoutBlocking);
    worker.on('error', () => {}); // each command hears of it by itself
    this.#workers.set(key, worker);
    return worker;
  }
}

interface Token {
  readonly text: string;
  /** Strikes it out of the journal. */
  strike(): Promise<void>;
}

/** Without this each Worker opens a blocking connection of its own. */
const withoutBlocking: BackendFactory<RedisQueueBackend> = (name, options) =>
  createRedisBackend(name, options, { withBlockingConnection: false });

function unrecoverable(error: Error): Error {
  const final = new UnrecoverableError(error.message);
  if (error.stack !== undefined) final.stack = error.stack;
  return final;
}

/** BullMQ's error codes -2 (no lock), -3 (not active), -6 (another's lock), as text. */
function isLockLost(error: unknown): boolean {
  return (
    error instanceof Error && /Missing lock|Lock mismatch|is not in the active state|Missing key/i.test(error.message)
  );
}
