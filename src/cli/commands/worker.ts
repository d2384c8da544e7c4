/** `goldbed worker`: runs jobs until SIGTERM, which drains; a second signal gives the running jobs back. */
import { Command } from 'commander';
import { UsageError } from '../../protocol/errors.ts';
import type { Log } from '../../worker/handle.ts';
import { makeContext, type Context, type GlobalFlags } from '../context.ts';
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
      let signals = 0;
      let obey = (): void => {};
      // before the start: one that is told to end while it starts ends cleanly, too
      for (const name of ['SIGTERM', 'SIGINT'] as const) {
        process.on(name, () => {
          signals += 1;
          progress(signals === 1 ? `${name}: draining; once more gives the running jobs back` : `${name}: stopping`);
          obey();
        });
      }
      const worker = await startWorker(context, { slots, log: await logger(context.settings.worker) });
      obey = () => {
        if (signals > 0) worker.stop(signals === 1 ? 'drain' : 'now');
      };
      obey();
      await worker.finished;
      exit(0);
    });
}

/** Lines for people, or pino's JSON, to standard error. */
async function logger({ log, name }: Context['settings']['worker']): Promise<Log> {
  if (log === 'text') return (line) => progress(line);
  const { default: pino } = await import('pino'); // the bundle has no other export of it
  const json = pino({ base: { host: name, pid: process.pid } }, pino.destination({ dest: 2, sync: true }));
  return (line, details) => json.info(details ?? {}, line);
}

function slotCount(text: string): number {
  if (!/^[1-9]\d{0,2}$/.test(text)) throw new UsageError('--slots', `--slots: expected 1 to 999, found "${text}"`);
  return Number(text);
}
