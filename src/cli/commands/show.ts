/** `goldbed show ID`: everything that is known of one job. */
import { Command } from 'commander';
import { findRun } from '../../producer/runs.ts';
import { makeContext, openRedis, type GlobalFlags } from '../context.ts';
import { describeOutcome, describeWait } from '../outcome-text.ts';
import { age, ahead, json, out } from '../print.ts';
import { resultFolder } from '../results.ts';

export function showCommand(): Command {
  return new Command('show')
    .description('show one job: state, outcome, generation, steps, files')
    .argument('ID', 'the job’s id, or the beginning of it')
    .option('--json', 'print one JSON document')
    .action(async (prefix: string, { json: asJson }: { json?: boolean }, command: Command) => {
      const context = makeContext(command.optsWithGlobals<GlobalFlags>());
      await using redis = await openRedis(context, new AbortController().signal);
      const run = await findRun(redis, prefix);
      if (asJson) {
        json({ ...run });
        return;
      }
      out(`${run.id}  ${run.kind ?? '?'}  ${run.what ?? ''}  ${run.image ?? ''}  ${run.state}`);
      out(`  submitted ${age(run.submitted, Date.now())} ago`);
      if (run.size !== undefined) out(`  size ${run.size}`);
      if (run.labels !== undefined) out(`  labels ${run.labels.join(', ')}`);
      if (run.deadline !== undefined && run.finished === undefined)
        out(`  is cancelled ${ahead(run.deadline, Date.now())}`);
      const waits = describeWait(run, Date.now());
      if (waits !== undefined) out(`  ${waits}`);
      if (run.outcome !== undefined) {
        for (const line of describeOutcome(run.id, run.outcome, undefined)) out(line);
      }
      const folder = await resultFolder(context, run);
      if (folder !== undefined) out(`  files: ${folder}`);
      else if (run.outcome !== undefined) out(`  files: on ${run.outcome.host}`);
      if (run.failure !== undefined) out(`  ${run.failure.class}: ${run.failure.message}`);
    });
}
