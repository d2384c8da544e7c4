/** Claims and runs jobs until nothing is left to do, or a successor has taken over. */
import { resolvers } from '../exec/resolvers.ts';
import type { Keeper } from './keeper.ts';
import { runLoop, type LoopOptions } from './loop.ts';

export interface UntilPassed {
  readonly keeper: Keeper;
  /** Those of other processes that this one follows. */
  readonly adopted: readonly Promise<void>[];
  /** Claims nothing more when it fires. */
  readonly drain: AbortSignal;
}

/** What goes on here under a successor. */
export interface Rest {
  readonly ended: Promise<unknown>;
}

/** @returns undefined when all jobs have ended; else what is left when the jobs have passed on */
export async function claimUntilPassed(
  options: Omit<LoopOptions, 'onStopped'>,
  { keeper, adopted, drain }: UntilPassed,
): Promise<Rest | undefined> {
  const running: Promise<void>[] = [...adopted];
  for (;;) {
    const pause = new AbortController();
    const stopped = resolvers();
    running.push(runLoop({ ...options, onStopped: stopped.resolve }, AbortSignal.any([drain, pause.signal])));
    const ended = Promise.all(running);
    const first = await Promise.race([ended.then(() => 'ended'), keeper.asked()]);
    if (first === 'ended') return undefined;
    pause.abort();
    await stopped.promise;
    if (await keeper.passOn()) return { ended };
    // whoever asked has vanished: go on
  }
}
