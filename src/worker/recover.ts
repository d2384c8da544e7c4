/**
 * At a worker's start: what dead workers of this host left. Outcomes that they did not come to tell are told, their other
 * jobs go back to the queue, their testbeds go away.
 */
import type { State } from '../config/state.ts';
import { emptyTrash } from '../exec/trash.ts';
import type { Claims } from './claims.ts';
import type { Log } from './handle.ts';
import { takeDeadIncarnations } from './journal.ts';

export async function recover(
  state: State,
  claims: Pick<Claims, 'giveBackToken' | 'completeFor'>,
  reapers: readonly (() => Promise<readonly string[]>)[],
  log: Log,
): Promise<void> {
  for (const reap of reapers) {
    for (const session of await reap()) log(`removed what session ${session} left`);
  }
  await emptyTrash(state.trash);
  for (const dead of await takeDeadIncarnations(state)) {
    for (const { key, token, ended } of dead.claims) {
      if (ended !== undefined && (await claims.completeFor(key, token, ended))) {
        log(`${ended.runId}: ended before its worker died; its outcome is recorded now`);
      }
      for (const runId of await claims.giveBackToken(key, token)) log(`${runId}: given back, its worker had died`);
    }
    await dead.forget();
  }
}
