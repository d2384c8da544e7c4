/** How a claim ended, in one word: read off what was said to Redis, so that each way of ending counts, and none twice. */
import { parseFailure, type Failure } from '../protocol/failure.ts';
import type { Outcome } from '../protocol/outcome.ts';
import type { Claimed } from './claimed.ts';
import type { Settlement } from './handover.ts';

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
  const watched: Pick<Claimed, 'complete' | 'fail' | 'giveBack' | 'leave'> = {
    complete: (outcome) => as(completedWith(outcome), () => claimed.complete(outcome)),
    fail: (error, how) => as(failedWith(error, how), () => claimed.fail(error, how)),
    giveBack: () => as({ word: 'returned' }, () => claimed.giveBack()),
    async leave(delay) {
      putOff = true;
      await claimed.leave(delay);
    },
  };
  return {
    claimed: covered(claimed, watched),
    ending: () => ended ?? (putOff ? undefined : { word: 'lost' }),
  };
}

/** The same thing with some methods in the place of its own; whatever it is made of, it keeps its own `this`. */
function covered<T extends object>(thing: T, methods: Partial<T>): T {
  return new Proxy(thing, {
    get(target, name) {
      if (Object.hasOwn(methods, name)) return methods[name as keyof T];
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

export function completedWith({ result }: Outcome): Ended {
  return { word: verdicts.includes(result.status) ? result.status : 'other' };
}

export function failedWith(error: Error, { retry }: { readonly retry: boolean }): Ended {
  const failure = parseFailure(error.message);
  if (retry) return { word: 'retried', failure };
  return { word: failure.class === 'interrupted' ? 'cancelled' : failure.class, failure };
}

/** Of a job that ran in another process of this worker. */
export function endedAs(settlement: Settlement | undefined): Ended {
  switch (settlement?.how) {
    case 'complete':
      return completedWith(settlement.outcome);
    case 'fail':
      return failedWith(new Error(settlement.message), settlement);
    case 'give-back':
      return { word: 'returned' };
    case 'nothing':
    case undefined:
      return { word: 'lost' };
  }
}
