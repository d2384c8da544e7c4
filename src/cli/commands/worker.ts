/** `goldbed worker`: runs jobs until SIGTERM, which drains; a second signal gives the running jobs back. */
import { Command } from 'commander';
import { UsageError } from '../../protocol/errors.ts';
import { makeContext, type GlobalFlags } from '../context.ts';
import { progress } from '../print.ts';
import { startWorker } from '../run-worker.ts';

type Flags = GlobalFlags & { readonly slots?: string };

export function workerCommand(exit: (code: number) => void): Command {
  return new Command('worker')
    .description('claim jobs from Redis and run them on this host')
    .option('--slots <N>', 'jobs at a time')
    .action(async (_: unknown, command: Command) => {
      const flags = command.optsWithGlobals<Flags>();
      const context = makeContext(flags);
      const slots = flags.slots === undefined ? context.settings.worker.slots : slotCount(flags.slots);
      const worker = await startWorker(context, { slots, log: (line) => progress(line) });
      let signals = 0;
      for (const name of ['SIGTERM', 'SIGINT'] as const) {
        process.on(name, () => {
          signals += 1;
          progress(signals === 1 ? `${name}: draining; once more gives the running jobs back` : `${name}: stopping`);
          worker.stop(signals === 1 ? 'drain' : 'now');
        });
      }
      await worker.finished;
      exit(0);
    });
}

function slotCount(text: string): number {
  if (!/^[1-9]\d{0,2}$/.test(text)) throw new UsageError('--slots', `--slots: expected 1 to 999, found "${text}"`);
  return Number(text);
}
