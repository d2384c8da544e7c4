/** `goldbed worker restart`: as SIGHUP to the workers of this state folder, and waits until that is done. */
import { setTimeout as delay } from 'node:timers/promises';
import { Command } from 'commander';
import { isAlive } from '../../exec/process-identity.ts';
import { messageOf, UnavailableError } from '../../protocol/errors.ts';
import { restartableWorkers, type RestartableWorker } from '../../worker/journal.ts';
import { readRestartNote, removeRestartNote, type RestartNote } from '../../worker/restart-note.ts';
import { makeContext, type GlobalFlags } from '../context.ts';
import { out } from '../print.ts';

/** Milliseconds between two looks. */
const look = 50;

export function workerRestartCommand(): Command {
  return new Command('restart')
    .description('put a new process in charge of the workers of this state folder; the running jobs go on')
    .action(async (_: unknown, command: Command) => {
      const { state } = makeContext(command.optsWithGlobals<GlobalFlags>());
      const workers = await restartableWorkers(state);
      if (workers.length === 0) throw new UnavailableError(`no worker runs in ${state.root} that can be restarted`);
      for (const worker of workers) {
        const { pid } = await restart(worker);
        out(`worker ${worker.main.pid}: process ${pid} has taken over`);
      }
    });
}

/** @throws {UnavailableError} it goes on as before, or has ended */
async function restart({ folder, main }: RestartableWorker): Promise<RestartNote> {
  await removeRestartNote(folder);
  try {
    process.kill(main.pid, 'SIGHUP');
  } catch (error) {
    throw new UnavailableError(`worker ${main.pid} cannot be restarted: ${messageOf(error)}`, { cause: error });
  }
  for (;;) {
    const note = await readRestartNote(folder);
    if (note?.failed !== undefined) throw new UnavailableError(`worker ${main.pid} is not restarted: ${note.failed}`);
    if (note !== undefined) return note;
    if (!isAlive(main)) throw new UnavailableError(`worker ${main.pid} has ended`);
    await delay(look);
  }
}
