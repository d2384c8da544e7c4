/** How a claim ended, in one word: read off what was said to Redis, so that each way of ending counts, and none twice. */
import { parseFailure, type Failure } from '../protocol/failure.ts';
import type { Outcome } from '../protocol/outcome.ts';
import type { Claimed } from './claimed.ts';

export interface Watched {
  /** To be used in the place of the claim. */
  readonly claimed: Claimed;
  /**
   * What it came to; `lost` when nothing could be said. Undefined when it has not ended: it was put off, and waits for a
   * refresh, for another host, or for whoever paused it.
   */
  ending(): Ended | undefined;
}

export interface Ended {
  readonly word: string;
  /** Set when the package was not judged. */
  readonly failure?: Failure;
}

/** What clients and updates say; a log is a package's own text, and must not invent further words. */
const verdicts: readonly string[] = [
  ...['successful', 'attempted', 'given-back', 'skipped', 'failed', 'dep-wait'],
  ...['pass', 'fail', 'neutral', 'published', 'unchanged'],
];

export function watchEnding(claimed: Claimed): Watched {
  let ended: Ended | undefined;
  let putOff = false;
  const as = async (what: Ended, action: () => Promise<void>): Promise<void> => {
    await action(); // it counts when Redis has it: else it is lost
    ended = what;
  };
  return {
    claimed: {
      ...claimed,
      complete: (outcome) => as({ word: verdictOf(outcome) }, () => claimed.complete(outcome)),
      fail: (error, how) => as(failed(error, how), () => claimed.fail(error, how)),
      giveBack: () => as({ word: 'returned' }, () => claimed.giveBack()),
      async leave(delay) {
        putOff = true;
        await claimed.leave(delay);
      },
    },
    ending: () => ended ?? (putOff ? undefined : { word: 'lost' }),
  };
}

function verdictOf({ result }: Outcome): string {
  return verdicts.includes(result.status) ? result.status : 'other';
}

function failed(error: Error, { retry }: { readonly retry: boolean }): Ended {
  const failure = parseFailure(error.message);
  if (retry) return { word: 'retried', failure };
  return { word: failure.class === 'interrupted' ? 'cancelled' : failure.class, failure };
}
