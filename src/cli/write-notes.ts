/** For writes that are made here and not by a job: how they ended goes where `image ls` and `image show` look. */
import { noteEnding, type BridgeEnd, type Refused, type WriteAttempt } from '../golden/index.ts';
import { progress } from './print.ts';

export type Who = Omit<WriteAttempt, 'base'>;

/** Of clients that use the golden verbs: what they say on the way is theirs. */
export async function noteRefused(who: Who, { base, reason, manifest }: Refused): Promise<void> {
  const log = `goldbed: commit: ${reason}\n`;
  await noteEnding({ ...who, base }, { status: 'failed', step: 'commit', reason, log, manifest }, progress);
}

/** Of programs that do not know them; what was published needs no note. */
export async function noteBridged(who: Who, end: BridgeEnd): Promise<void> {
  const { verdict, contended, base, journal, manifest } = end;
  if (verdict.status === 'unchanged') return noteEnding({ ...who, base }, { status: 'unchanged' }, progress);
  if (verdict.status !== 'discarded' || contended) return;
  const { reason } = verdict;
  const log = `${journal}goldbed: nothing was published: ${reason}\n`;
  await noteEnding({ ...who, base }, { status: 'failed', step: 'golden-update', reason, log, manifest }, progress);
}

/** The policy's canary is built by a worker's job only: the record must say so, and so must we. */
export function canaryNotRun(canary: string | undefined, command: string): readonly string[] {
  if (canary === undefined) return [];
  progress(
    `goldbed: the policy’s canary ${canary} is not run by ${command}: only a job does that (goldbed image update --wait)`,
  );
  return [`canary ${canary}: not run (by ${command})`];
}
