/**
 * Claiming jobs: the one file of the worker that touches BullMQ. Jobs are fetched by hand, without blocking, on one
 * connection for all queues; BullMQ then renews nothing by itself (renewal.ts does).
 */
import { randomUUID } from 'node:crypto';
import {
  createRedisBackend,
  ErrorCode,
  Job,
  UnrecoverableError,
  Worker,
  type BackendFactory,
  type RedisQueueBackend,
} from 'bullmq';
import { LeaseLost } from '../protocol/errors.ts';
import { outcomeSchema, type Outcome } from '../protocol/outcome.ts';
import type { Nudge } from '../protocol/nudge.ts';
import type { RoutingKey } from '../protocol/routing.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { nudge } from '../redis/nudges.ts';
import type { Journal } from './journal.ts';

/** Milliseconds for which a claim holds without renewal. */
export const lockDuration = 600_000;

/** Milliseconds before a failed attempt is tried again; the producer gives jobs the same (retryDelay in enqueue.ts). */
const retrySoon = 2_000;

/** Milliseconds between two looks for claims whose lock ran out; per queue, whatever the number of workers. */
const usualStalledCheck = 60_000;

export interface Claimed {
  readonly runId: string;
  readonly key: RoutingKey;
  /** Whatever somebody put into the queue. */
  readonly data: unknown;
  /** Milliseconds since the epoch. */
  readonly submitted: number;
  /** False when the claim is lost. Waits while Redis is away. */
  renew(): Promise<boolean>;
  /** Each of these ends the claim, and waits while Redis is away. @throws {LeaseLost} when it was not ours any more */
  complete(outcome: Outcome): Promise<void>;
  fail(error: Error, how: { retry: boolean }): Promise<void>;
  giveBack(): Promise<void>;
}

export class Claims implements AsyncDisposable {
  readonly #redis: RedisHandle;
  readonly #journal: Journal;
  readonly #workers = new Map<RoutingKey, Worker>();
  /** Journalled tokens for the next claim: the last one came back empty, or failed. */
  readonly #spare = new Map<RoutingKey, Token>();
  #due: number | undefined;
  /** How often the connection was made: anew after each time it broke. */
  #connections = 0;
  readonly #onReady = (): void => void (this.#connections += 1);
  readonly #stalledCheck: number;

  constructor(redis: RedisHandle, journal: Journal, { stalledCheck = usualStalledCheck } = {}) {
    this.#redis = redis;
    this.#journal = journal;
    this.#stalledCheck = stalledCheck;
    redis.client.on('ready', this.#onReady);
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
    const { unsure } = token;
    const connection = this.#connections;
    const job = await this.#fetch(worker, key, token);
    // ioredis sends again what was under way when the connection broke: the first time may have taken a job, too
    if (unsure || connection !== this.#connections) await this.#giveBackHeld(key, token.text, job?.id);
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
  giveBackToken(key: RoutingKey, token: string): Promise<string[]> {
    return this.#giveBackHeld(key, token, undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#redis.client.off('ready', this.#onReady);
    for (const token of this.#spare.values()) if (!token.unsure) await token.strike();
    this.#spare.clear();
    for (const worker of this.#workers.values()) await worker.close(true);
  }

  async #fetch(worker: Worker, key: RoutingKey, token: Token): Promise<Job | undefined> {
    try {
      token.unsure = true;
      const job = (await worker.getNextJob(token.text, { block: false })) as Job | undefined;
      token.unsure = false;
      return job;
    } catch (error) {
      // what is no JSON is found out after the claim: the job is ours, though BullMQ cannot show it to us
      const [id] = error instanceof SyntaxError ? await this.#heldBy(key, token.text) : [];
      if (id !== undefined) return this.#readUnreadable(worker, key, id);
      this.#spare.set(key, token);
      throw error;
    }
  }

  /** Writes the entry of another program so that it can be read, as the string that it is: it fails like any bad request. */
  async #readUnreadable(worker: Worker, key: RoutingKey, id: string): Promise<Job | undefined> {
    const job = `${this.#redis.keys.queues}:${key}:${id}`;
    const [data, opts] = await this.#redis.client.hmget(job, 'data', 'opts');
    await this.#redis.client.hset(job, {
      data: isJson(data) ? data : JSON.stringify(data ?? null),
      opts: isJson(opts) ? opts : '{}',
    });
    return Job.fromId(worker, id);
  }

  async #giveBackHeld(key: RoutingKey, token: string, but: string | undefined): Promise<string[]> {
    const given: string[] = [];
    for (const id of await this.#heldBy(key, token)) {
      if (id === but) continue;
      try {
        await this.#workerOf(key).backend.moveJobFromActiveToWait(id, token);
      } catch (error) {
        if (isLockLost(error)) continue; // ran out in this moment: the look for those finds it
        throw error;
      }
      await tell(this.#redis, { enqueued: key });
      given.push(id);
    }
    return given;
  }

  async #heldBy(key: RoutingKey, token: string): Promise<string[]> {
    const queue = `${this.#redis.keys.queues}:${key}`;
    const active = await this.#redis.client.lrange(`${queue}:active`, 0, -1);
    if (active.length === 0) return [];
    const locks = await this.#redis.client.mget(active.map((id) => `${queue}:${id}:lock`));
    return active.filter((_, index) => locks[index] === token);
  }

  #claimed(job: Job, key: RoutingKey, token: Token): Claimed {
    const runId = String(job.id);
    const settle = async (end: () => Promise<unknown>, said: Nudge = { ended: runId }): Promise<void> => {
      try {
        await end();
      } catch (error) {
        if (!isLockLost(error)) throw error; // it is still ours, and the journal says so
        await token.strike();
        throw new LeaseLost(`${runId}: the claim was lost`, { cause: error });
      }
      await token.strike();
      await tell(this.#redis, said);
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
      giveBack: () => settle(() => job.moveToWait(token.text), { enqueued: key }),
    };
  }

  async #newToken(key: RoutingKey): Promise<Token> {
    const text = `${this.#journal.incarnation}.${randomUUID()}`;
    return { text, unsure: false, strike: await this.#journal.write({ key, token: text }) };
  }

  #workerOf(key: RoutingKey): Worker {
    const known = this.#workers.get(key);
    if (known !== undefined) return known;
    const options = {
      connection: this.#redis.client,
      prefix: this.#redis.keys.queues,
      autorun: false,
      lockDuration,
      stalledInterval: this.#stalledCheck,
      maxStalledCount: 100, // cumulative over a job's life, and a job may run for ten hours
    };
    const worker = new Worker(key, undefined, options, withoutBlocking);
    worker.on('error', () => {}); // each command hears of it by itself
    // a host that never comes back gives nothing back: what it held returns when its lock has run out, by this alone
    worker.on('stalled', () => void tell(this.#redis, { enqueued: key }));
    void worker.startStalledCheckTimer();
    this.#workers.set(key, worker);
    return worker;
  }
}

interface Token {
  readonly text: string;
  /** Its last claim was not answered: it may hold a job, and must not leave the journal before that is known. */
  unsure: boolean;
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

/** Nobody may hear it, and what it tells can be found by looking: it is no reason to fail. */
function tell(redis: RedisHandle, said: Nudge): Promise<void> {
  return nudge(redis, said).catch(() => {});
}

function isJson(text: string | null | undefined): text is string {
  try {
    JSON.parse(text ?? '');
    return true;
  } catch {
    return false;
  }
}

/** BullMQ's own word for it, a number on the error (finished-errors.js of 6.7). */
function isLockLost(error: unknown): boolean {
  const { JobNotExist, JobLockNotExist, JobNotInState, JobLockMismatch } = ErrorCode;
  const lost: unknown[] = [JobNotExist, JobLockNotExist, JobNotInState, JobLockMismatch];
  return error instanceof Error && 'code' in error && lost.includes(error.code);
}
