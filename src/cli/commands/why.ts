/** `goldbed why ID`: what a job waits for. */
import { Command } from 'commander';
import { findRun } from '../../producer/runs.ts';
import { whyWaiting } from '../../producer/why.ts';
import { makeContext, openRedis, type GlobalFlags } from '../context.ts';
import { json, out } from '../print.ts';

export function whyCommand(): Command {
  return new Command('why')
    .description('say what a job waits for')
    .argument('ID', 'the job’s id, or the beginning of it')
    .option('--json', 'print one JSON document')
    .action(async (prefix: string, flags: { json?: boolean }, command: Command) => {
      await using redis = await openRedis(
        makeContext(command.optsWithGlobals<GlobalFlags>()),
        new AbortController().signal,
      );
      const run = await findRun(redis, prefix);
      const reasons = await whyWaiting(redis, run.id);
      if (flags.json === true) return json({ id: run.id, state: run.state, reasons });
      out(`${run.id} ${run.state}`);
      for (const reason of reasons) out(`  ${reason}`);
    });
}
