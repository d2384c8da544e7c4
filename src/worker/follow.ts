/** A job whose session is in another process of this worker: its claim is renewed, heeded and settled here. */
import { LeaseLost, messageOf } from '../protocol/errors.ts';
import { parseFailure } from '../protocol/failure.ts';
import type { Claimed } from './claimed.ts';
import type { Claims } from './claims.ts';
import type { Ending, Log } from './handle.ts';
import type { HandedJob, Settlement } from './handover.ts';
import type { Keeper } from './keeper.ts';
import type { AdoptedJob } from './keeper-link.ts';
import type { Renewal } from './renewal.ts';

export interface FollowOptions {
  readonly claims: Pick<Claims, 'adopt'>;
  /** This process may be succeeded in its turn: then it heeds the job no more. */
  readonly keeper: Pick<Keeper, 'busy' | 'passed'>;
  readonly renew: (claimed: Claimed) => Renewal;
  /** The job's session is gone with its process. */
  readonly recover: (job: HandedJob) => Promise<void>;
  readonly log: Log;
}

const other: Ending = { kind: 'other' };

/** Never rejects. */
export async function follow(job: AdoptedJob, options: FollowOptions): Promise<Ending> {
  const { handed } = job;
  const { keeper, recover, log } = options;
  try {
    using beginning = keeper.busy.hold();
    let unknown = 'nobody knows it any more';
    const claimed = await options.claims.adopt(handed).catch((error: unknown) => {
      unknown = messageOf(error); // nobody renews its claim, so it must not go on
      return undefined;
    });
    if (claimed === undefined) job.abort(new LeaseLost(`${handed.runId}: ${unknown}`));
    using _ = claimed === undefined ? undefined : heed(job, claimed, options);
    beginning[Symbol.dispose]();
    const settlement = await job.ending;
    if (keeper.passed.aborted) return other; // our successor hears of it, too
    using settling = keeper.busy.hold();
    void settling;
    if (settlement === undefined) {
      await recover(handed);
      await claimed?.strike();
    } else if (claimed !== undefined) return await settleFor(job, claimed, settlement, log);
    else job.acknowledge(unknown);
  } catch (error) {
    log(`${handed.runId}: cannot be settled: ${messageOf(error)}`);
  }
  return other;
}

/** Renews the claim, and passes on whatever must stop the job. */
function heed(job: AdoptedJob, claimed: Claimed, { keeper, renew, log }: FollowOptions): Disposable {
  const renewal = renew(claimed);
  const { signal } = renewal;
  const stop = (): void => {
    if (keeper.passed.aborted) return;
    log(`${claimed.runId}: to be stopped: ${messageOf(signal.reason)}`);
    job.abort(signal.reason);
  };
  const letGo = (): void => renewal[Symbol.dispose]();
  if (signal.aborted) stop();
  signal.addEventListener('abort', stop);
  keeper.passed.addEventListener('abort', letGo);
  return {
    [Symbol.dispose]() {
      signal.removeEventListener('abort', stop);
      keeper.passed.removeEventListener('abort', letGo);
      letGo();
    },
  };
}

async function settleFor(job: AdoptedJob, claimed: Claimed, settlement: Settlement, log: Log): Promise<Ending> {
  try {
    await settle(claimed, settlement);
  } catch (error) {
    job.acknowledge(messageOf(error));
    throw error;
  }
  job.acknowledge();
  log(`${claimed.runId}: settled for the process that ran it: ${settlement.how}`);
  if (settlement.how === 'complete') return { kind: 'completed' };
  if (settlement.how !== 'fail' || !settlement.retry) return other;
  return { kind: 'testbed', message: parseFailure(settlement.message).message };
}

async function settle(claimed: Claimed, settlement: Settlement): Promise<void> {
  switch (settlement.how) {
    case 'complete':
      return claimed.complete(settlement.outcome);
    case 'fail': {
      const error = new Error(settlement.message);
      if (settlement.stack !== undefined) error.stack = settlement.stack;
      return claimed.fail(error, { retry: settlement.retry });
    }
    case 'give-back':
      return claimed.giveBack();
    case 'nothing':
  }
}
