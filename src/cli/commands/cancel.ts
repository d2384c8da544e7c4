/** `goldbed cancel ID` */
import { Command } from 'commander';
import { cancelRun, findRun } from '../../producer/runs.ts';
import { makeContext, openRedis, type GlobalFlags } from '../context.ts';
import { out } from '../print.ts';

export function cancelCommand(): Command {
  return new Command('cancel')
    .description('stop a job, whether it waits or runs, and free what it holds')
    .argument('ID', 'the job’s id, or the beginning of it')
    .action(async (prefix: string, _: unknown, command: Command) => {
      await using redis = await openRedis(makeContext(command.optsWithGlobals<GlobalFlags>()), neverAborted());
      const run = await findRun(redis, prefix);
      await cancelRun(redis, run.id, 'cancelled by goldbed cancel');
      out(`${run.id} cancelled`);
    });
}

function neverAborted(): AbortSignal {
  return new AbortController().signal;
}
