/**
 * At a worker's start: what dead workers of this host left. Outcomes that they did not come to tell are told, their other
 * jobs go back to the queue, their testbeds go away.
 */
import type { State } from '../config/state.ts';
import { removeDeadSigns } from '../exec/sign-of-life.ts';
import { emptyTrash } from '../exec/trash.ts';
import { reapPins } from '../golden/index.ts';
import { messageOf } from '../protocol/errors.ts';
import type { Claims } from './claims.ts';
import type { Log } from './handle.ts';
import { takeDeadIncarnations, type Journal, type JournalEntry } from './journal.ts';
import { reapAll, type Reaper } from './reap.ts';

export type Settling = Pick<Claims, 'giveBackToken' | 'completeFor'>;

/**
 * Never rejects: neither a worker that starts nor the jobs that it has adopted may die of what others left, or of a disk that
 * has no room for clearing it away. What is still there then is found by the next worker.
 */
export async function recover(state: State, claims: Settling, backends: readonly Reaper[], log: Log): Promise<void> {
  await reapAll(backends, log);
  const steps = [
    () => emptyTrash(state.trash),
    () => recoverDead(state, claims, log),
    () => reapPins(state),
    async () => removeDeadSigns(),
  ];
  for (const step of steps) {
    try {
      await step();
    } catch (error) {
      log(`what dead workers left is not all cleared away: ${messageOf(error)}`);
    }
  }
}

async function recoverDead(state: State, claims: Settling, log: Log): Promise<void> {
  for (const dead of await takeDeadIncarnations(state)) {
    for (const claim of dead.claims) await recoverClaim(claims, claim, log);
    await dead.forget();
  }
}

/** Claims of a process of this worker that is gone, by their names in the journal. */
export async function recoverEntries(
  journal: Journal,
  names: readonly string[],
  claims: Settling,
  log: Log,
): Promise<void> {
  for (const claim of await journal.read()) {
    if (!names.includes(claim.name)) continue;
    await recoverClaim(claims, claim, log);
    await journal.adopt(claim.name).strike();
  }
}

async function recoverClaim(claims: Settling, { key, token, ended }: JournalEntry, log: Log): Promise<void> {
  if (ended !== undefined && (await claims.completeFor(key, token, ended))) {
    log(`${ended.runId}: ended before its worker died; its outcome is recorded now`);
  }
  for (const runId of await claims.giveBackToken(key, token)) log(`${runId}: given back, its worker had died`);
}
