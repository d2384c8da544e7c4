/** A claimed job: its claim is kept alive, and ended once, in one of three ways. */
import { ErrorCode, UnrecoverableError, type Job } from 'bullmq';
import { LeaseLost } from '../protocol/errors.ts';
import { outcomeSchema, type Outcome } from '../protocol/outcome.ts';
import type { RoutingKey } from '../protocol/routing.ts';
import type { RedisHandle } from '../redis/connect.ts';
import { nudge } from '../redis/nudges.ts';
import { setDue } from '../redis/due.ts';
import { keepWhenEnded, noteEnded } from '../redis/ended.ts';
import { advanceTime } from '../redis/fair.ts';
import { insist } from '../redis/persist.ts';
import { announceWork } from '../redis/ready.ts';
import { spend, type RetriedClass, type Spent } from './budgets.ts';
import type { WrittenEntry } from './journal.ts';
import { renewLock } from './lock.ts';

/** Milliseconds before a failed attempt is tried again. */
export const retryDelay = 2_000;

export interface Claimed {
  readonly runId: string;
  readonly key: RoutingKey;
  /** Whatever somebody put into the queue. */
  readonly data: unknown;
  /** Milliseconds since the epoch. */
  readonly submitted: number;
  /** Counts the claims of the job, wherever, from 1. */
  readonly attempt: number;
  /** What it was claimed with, and the name of the file in the journal that says so. */
  readonly token: string;
  readonly entry: string;
  /** To be said when it begins: its tenant has had its turn (redis/fair.ts). One that is put off before has not. */
  takeTurn(): void;
  /** False when the claim is lost. Waits while Redis is away. */
  renew(): Promise<boolean>;
  /** Writes the outcome into the journal: the first half of completing it. */
  record(outcome: Outcome): Promise<void>;
  /** Takes from one of the job's budgets (budgets.ts): this attempt failed on a host. */
  spend(of: RetriedClass, host: string): Promise<Spent>;
  /**
   * Each of these ends the claim, and waits while Redis is away, or refuses. @throws {LeaseLost} when it was not ours any
   * more
   */
  complete(outcome: Outcome): Promise<void>;
  /** With `retry` it is delayed, and claimed again, however often that is asked for: the budgets are counted by others. */
  fail(error: Error, how: { retry: boolean }): Promise<void>;
  giveBack(): Promise<void>;
  /** Back to the queue, for whoever is first after so many milliseconds. */
  leave(delay: number): Promise<void>;
  /** Away with it: it was no run, but stood for one. */
  drop(): Promise<void>;
  /** Out of the journal: it was given back by its token. */
  strike(): Promise<void>;
}

/** What a claim was made with. */
export interface Token {
  readonly text: string;
  /** Its last claim was not answered: it may hold a job, and must not leave the journal before that is known. */
  unsure: boolean;
  readonly entry: WrittenEntry;
}

export interface ClaimParts {
  readonly job: Job;
  readonly key: RoutingKey;
  readonly token: Token;
  readonly attempt: number;
  /** Called when the job is to be tried again later. */
  readonly onRetry: () => void;
}

export function claimedJob(redis: RedisHandle, { job, key, token, attempt, onRetry }: ClaimParts): Claimed {
  const runId = String(job.id);
  const renew = (): Promise<boolean> => renewLock(redis, key, { id: runId, attempt }, token.text);
  keepWhenEnded(job);
  const ended = async (): Promise<void> => {
    await Promise.all([noteEnded(redis, key, runId), nudge(redis, { ended: runId })]);
  };
  // an entry that a broken disk keeps does no harm: whoever finds it finds a token that holds nothing
  const strike = (): Promise<void> => token.entry.strike().catch(() => {});
  const settle = async (end: () => Promise<unknown>, tell: () => Promise<void> = ended): Promise<void> => {
    try {
      await insist(redis, () => whileOurs(end, renew));
    } catch (error) {
      if (!isLockLost(error)) throw error; // it is still ours, and the journal says so
      await strike();
      throw new LeaseLost(`${runId}: the claim was lost`, { cause: error });
    }
    await strike();
    await tell().catch(() => {}); // what nobody hears can be found by looking
  };
  const putOff = (delay: number | undefined) => async (): Promise<void> => {
    if (delay !== undefined) await setDue(redis, key, runId, delay);
    await ended(); // also of this attempt: who waits looks again
  };
  const record = (outcome: Outcome): Promise<void> => token.entry.end({ runId, attempt, outcome });
  return {
    runId,
    key,
    token: token.text,
    entry: token.entry.name,
    record,
    strike: () => token.entry.strike(),
    data: job.data,
    submitted: Number.isFinite(job.timestamp) ? job.timestamp : Date.now(), // another program may have left it out
    attempt,
    takeTurn: () => void advanceTime(redis, key, job.priority).catch(() => {}), // a little less fair, and no more
    renew,
    spend: (of, host) => insist(redis, () => spend(redis, { key, id: runId }, of, { attempt, host })),
    async complete(told) {
      const outcome = outcomeSchema.parse(told);
      // the journal is for a death between here and the telling: on a full disk Redis is told all the same
      await record(outcome).catch(() => {});
      await settle(() => job.moveToCompleted(outcome, token.text, false));
    },
    fail: (error, { retry }) =>
      settle(
        async () => {
          if (retry) onRetry();
          // whatever whoever put it there has set: BullMQ's own count of attempts is not ours
          if (retry) job.opts = { ...job.opts, attempts: Infinity, backoff: { type: 'fixed', delay: retryDelay } };
          await job.moveToFailed(retry ? error : unrecoverable(error), token.text, false);
        },
        putOff(retry ? retryDelay : undefined),
      ),
    giveBack: () =>
      settle(
        () => job.moveToWait(token.text),
        () => announceWork(redis, key),
      ),
    leave: (delay) =>
      settle(
        () => job.moveToDelayed(Date.now() + delay, token.text),
        () => setDue(redis, key, runId, delay), // the coordinator tells when the time has come
      ),
    drop: () =>
      settle(
        () => job.moveToCompleted(null, token.text, false),
        async () => {}, // nobody waits for it
      ),
  };
}

/** Once more when the lock had run out while Redis was away, and could be had again. */
export async function whileOurs(action: () => Promise<unknown>, renew: () => Promise<boolean>): Promise<void> {
  try {
    await action();
  } catch (error) {
    if (!isLockLost(error) || !(await renew())) throw error;
    await action();
  }
}

/** BullMQ's own word for it, a number on the error (finished-errors.js of 6.7). */
export function isLockLost(error: unknown): boolean {
  const { JobNotExist, JobLockNotExist, JobNotInState, JobLockMismatch } = ErrorCode;
  const lost: unknown[] = [JobNotExist, JobLockNotExist, JobNotInState, JobLockMismatch];
  return error instanceof Error && 'code' in error && lost.includes(error.code);
}

function unrecoverable(error: Error): Error {
  const final = new UnrecoverableError(error.message);
  if (error.stack !== undefined) final.stack = error.stack;
  return final;
}
