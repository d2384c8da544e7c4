/**
 * Claiming jobs. They are fetched by hand, without blocking, on one connection for all queues; BullMQ then renews nothing
 * by itself (renewal.ts does), and looks for nothing that was lost (coordinator.ts does).
 */
import { randomUUID } from 'node:crypto';
import { createRedisBackend, Job, Worker, type BackendFactory, type RedisQueueBackend } from 'bullmq';
import { failureError } from '../protocol/failure.ts';
import { parseJson } from '../protocol/json.ts';
import type { RoutingKey } from '../protocol/routing.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { nudge } from '../redis/nudges.ts';
import { keepWhenEnded, noteEnded } from '../redis/ended.ts';
import { heldJobs } from '../redis/held.ts';
import { insist, persist } from '../redis/persist.ts';
import { announceWork, readyKeys, settleReady } from '../redis/ready.ts';
import { firstJobs, keepRoomFor, type AskedFirst } from '../redis/starving.ts';
import { budgets, onHosts, spend, spentSoFar, type Spent } from './budgets.ts';
import { claimedJob, isLockLost, retryDelay, whileOurs, type Claimed, type Token } from './claimed.ts';
import type { HandedJob } from './handover.ts';
import type { Ended, Journal, WrittenEntry } from './journal.ts';
import { lockDuration, renewLock, takeLock } from './lock.ts';
import { hostOf } from './presence.ts';

/** Milliseconds for which a host's word counts that it keeps room: it is said again at each look, twice a sweep or so. */
const roomKept = 45_000;

export class Claims implements AsyncDisposable {
  readonly #redis: RedisHandle;
  readonly #journal: Journal;
  readonly #workers = new Map<RoutingKey, Worker>();
  /** Journalled tokens for the next claim: the last one came back empty, or failed. */
  readonly #spare = new Map<RoutingKey, Token>();
  /** When a job that failed here is to be tried again, by its queue; ms since the epoch. */
  readonly #due = new Map<RoutingKey, number>();
  /** Tokens in use: those of the running jobs, and of claims under way. */
  readonly #live = new Set<string>();
  /** How often the connection was made: anew after each time it broke. */
  #connections = 0;
  readonly #onReady = (): void => {
    this.#connections += 1;
    void this.#reconcile().catch(() => {}); // broken again: there will be another time
  };

  constructor(redis: RedisHandle, journal: Journal) {
    this.#redis = redis;
    this.#journal = journal;
    redis.client.on('ready', this.#onReady);
  }

  /** The time (ms since the epoch) at which a job that failed here is to be tried again. */
  nextDue(): number | undefined {
    const now = Date.now();
    const times = [...this.#due.values()].filter((time) => time > now);
    return times.length === 0 ? undefined : Math.min(...times);
  }

  /** The queues in which something may wait now. */
  async ready(): Promise<RoutingKey[]> {
    const now = Date.now();
    const due = [...this.#due].filter(([, time]) => time <= now).map(([key]) => key);
    for (const key of due) this.#due.delete(key);
    return [...new Set([...(await readyKeys(this.#redis)), ...due])];
  }

  /** Of each queue the job that is claimed next; or still the one that was, while it waits. */
  first(asked: readonly AskedFirst[]): Promise<ReadonlyMap<RoutingKey, string>> {
    return firstJobs(this.#redis, asked);
  }

  /** The first of these queues for which no other host keeps its room: this one does from now on. */
  keepRoomFor(keys: readonly RoutingKey[]): Promise<RoutingKey | undefined> {
    return keepRoomFor(this.#redis, keys, this.#journal.incarnation, roomKept);
  }

  /** Undefined when nothing waits there. */
  async claim(key: RoutingKey, stop?: AbortSignal): Promise<Claimed | undefined> {
    const worker = this.#workerOf(key);
    const token = this.#spare.get(key) ?? (await this.#newToken(key));
    if (stop?.aborted === true) return void this.#spare.set(key, token);
    this.#spare.delete(key);
    const { unsure } = token;
    const connection = this.#connections;
    const job = await this.#fetch(worker, key, token);
    // ioredis sends again what was under way when the connection broke: the first time may have taken a job, too
    if (unsure || connection !== this.#connections) {
      await insist(this.#redis, () => this.#giveBackHeld(key, token.text, job?.id));
    }
    if (job === undefined) {
      this.#spare.set(key, token);
      await settleReady(this.#redis, key);
      return undefined;
    }
    const claimed = this.#claimed(job, key, token, job.attemptsStarted);
    const lost = await insist(this.#redis, () => this.#lostSoFar(key, job));
    if (lost?.left !== false) return claimed;
    const message = `its worker died or fell silent ${lost.times} times while it ran${onHosts(lost)}`;
    await claimed.fail(failureError({ class: 'lost', message }, undefined), { retry: false });
    return this.claim(key, stop);
  }

  /** A job that another process of this worker has claimed. Undefined when there is no such job any more. */
  async adopt({ key, runId, token, attempt, entry }: HandedJob): Promise<Claimed | undefined> {
    const adopted = this.#token(token, this.#journal.adopt(entry)); // live from now on: nobody gives it back
    const job = await insist(this.#redis, () => Job.fromId(this.#workerOf(key), runId));
    if (job !== undefined) return this.#claimed(job, key, adopted, attempt);
    await adopted.entry.strike();
    return undefined;
  }

  /** Lets a job that was left be claimed at once; it may be waiting already. */
  async promote(key: RoutingKey, runId: string): Promise<void> {
    try {
      await this.#workerOf(key).backend.promote(runId);
    } catch (error) {
      if (!isLockLost(error)) throw error;
    }
    await announceWork(this.#redis, key);
  }

  /** Puts back what a dead worker's token holds. @returns the run ids */
  async giveBackToken(key: RoutingKey, token: string): Promise<string[]> {
    const given = await this.#giveBackHeld(key, token, undefined);
    for (const id of given) await this.#noteLost(key, id, token);
    return given;
  }

  /** Puts back a claimed job that nobody holds a lock on. @returns false when somebody does, or it has ended */
  async giveBackUnlocked(key: RoutingKey, id: string): Promise<boolean> {
    const token = `lost.${randomUUID()}`;
    const given = (await takeLock(this.#redis, key, id, token)) && (await this.#giveBack(key, id, token));
    if (given) await this.#noteLost(key, id, token);
    return given;
  }

  /** Tells Redis what a dead worker did not come to tell. @returns whether it counts: the job was its own still */
  async completeFor(key: RoutingKey, token: string, { runId, attempt, outcome }: Ended): Promise<boolean> {
    const job = await Job.fromId(this.#workerOf(key), runId);
    if (job === undefined) return false;
    keepWhenEnded(job);
    try {
      await whileOurs(
        () => job.moveToCompleted(outcome, token, false),
        () => renewLock(this.#redis, key, { id: runId, attempt }, token),
      );
    } catch (error) {
      if (isLockLost(error)) return false;
      throw error;
    }
    await noteEnded(this.#redis, key, runId).catch(() => {});
    await nudge(this.#redis, { ended: runId }).catch(() => {});
    return true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#redis.client.off('ready', this.#onReady);
    for (const token of this.#spare.values()) if (!token.unsure) await token.entry.strike();
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
      // what is no JSON, or not what it should be, is found out after the claim: the job is ours, though BullMQ cannot show it to us
      if (error instanceof SyntaxError || error instanceof TypeError) {
        const [id] = await persist(this.#redis, () => this.#heldBy(key, token.text));
        if (id !== undefined) return persist(this.#redis, () => this.#readUnreadable(worker, key, id));
      }
      this.#spare.set(key, token);
      throw error;
    }
  }

  /** Writes the entry of another program so that it can be read, as the string that it is: it fails like any bad request. */
  async #readUnreadable(worker: Worker, key: RoutingKey, id: string): Promise<Job | undefined> {
    const job = this.#job(key, id);
    const [data, opts] = await this.#redis.client.hmget(job, 'data', 'opts');
    await this.#redis.client.hset(job, {
      data: isJson(data) ? data : JSON.stringify(data ?? null),
      opts: isRecord(parseJson(opts ?? '')) ? String(opts) : '{}',
    });
    for (const field of ['progress', 'parent']) {
      const value = await this.#redis.client.hget(job, field);
      if (value !== null && !isJson(value)) await this.#redis.client.hdel(job, field);
    }
    return Job.fromId(worker, id);
  }

  #job(key: RoutingKey, id: string): string {
    return `${this.#redis.keys.queues}:${key}:${id}`;
  }

  /** A job that kills whoever runs it must not go round for ever. Undefined for one that cannot have come so far. */
  async #lostSoFar(key: RoutingKey, { id, attemptsStarted }: Job): Promise<Spent | undefined> {
    return attemptsStarted <= budgets.lost ? undefined : spentSoFar(this.#redis, { key, id: String(id) }, 'lost');
  }

  async #noteLost(key: RoutingKey, id: string, token: string): Promise<void> {
    const [incarnation = '', unique = ''] = token.split('.');
    const host = (await hostOf(this.#redis.client, this.#redis.keys, incarnation)) ?? '';
    await spend(this.#redis, { key, id }, 'lost', { attempt: unique, host });
  }

  async #giveBackHeld(key: RoutingKey, token: string, but: string | undefined): Promise<string[]> {
    const given: string[] = [];
    for (const id of await this.#heldBy(key, token)) {
      if (id !== but && (await this.#giveBack(key, id, token))) given.push(id);
    }
    return given;
  }

  /** @returns false when it is not the token's any more */
  async #giveBack(key: RoutingKey, id: string, token: string): Promise<boolean> {
    try {
      await this.#workerOf(key).backend.moveJobFromActiveToWait(id, token);
    } catch (error) {
      if (isLockLost(error)) return false;
      throw error;
    }
    await announceWork(this.#redis, key).catch(() => {}); // the coordinator finds it
    return true;
  }

  /**
   * A server that came back may have lost its last writes: then a job that has ended here is held by us again, and would be
   * for ever, because we live. It goes back to the queue.
   */
  async #reconcile(): Promise<void> {
    for (const key of this.#workers.keys()) {
      for (const { token } of await heldJobs(this.#redis, key)) {
        const ours = token?.startsWith(`${this.#journal.incarnation}.`) === true;
        if (ours && !this.#live.has(token)) await this.#giveBackHeld(key, token, undefined);
      }
    }
  }

  async #heldBy(key: RoutingKey, token: string): Promise<string[]> {
    const held = await heldJobs(this.#redis, key);
    return held.filter((job) => job.token === token).map(({ id }) => id);
  }

  async #newToken(key: RoutingKey): Promise<Token> {
    const text = tokenOf(this.#journal.incarnation);
    return this.#token(text, await this.#journal.write({ key, token: text }));
  }

  #token(text: string, entry: WrittenEntry): Token {
    this.#live.add(text);
    const strike = (): Promise<void> => {
      this.#live.delete(text);
      return entry.strike();
    };
    return { text, unsure: false, entry: { ...entry, strike } };
  }

  #claimed(job: Job, key: RoutingKey, token: Token, attempt: number): Claimed {
    const onRetry = (): void => void this.#due.set(key, Date.now() + retryDelay + 50);
    return claimedJob(this.#redis, { job, key, token, attempt, onRetry });
  }

  #workerOf(key: RoutingKey): Worker {
    const known = this.#workers.get(key);
    if (known !== undefined) return known;
    const connection = this.#redis.client;
    const options = { connection, prefix: this.#redis.keys.queues, autorun: false, lockDuration };
    const worker = new Worker(key, undefined, options, withoutBlocking);
    worker.on('error', () => {}); // each command hears of it by itself
    this.#workers.set(key, worker);
    return worker;
  }
}

/** A worker's tokens begin with its incarnation: who holds a job can be told from its lock. */
function tokenOf(incarnation: string): string {
  return `${incarnation}.${randomUUID()}`;
}

/** Without this each Worker opens a blocking connection of its own. */
const withoutBlocking: BackendFactory<RedisQueueBackend> = (name, options) =>
  createRedisBackend(name, options, { withBlockingConnection: false });

function isJson(text: string | null | undefined): text is string {
  return parseJson(text ?? '') !== undefined;
}

function isRecord(value: unknown): boolean {
  return typeof value === 'object' && value !== null;
}
