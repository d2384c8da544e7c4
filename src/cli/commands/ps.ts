/** `goldbed ps`: jobs that wait or run, and with --all those that have ended. */
import { Command } from 'commander';
import { listRuns, type RunDetails } from '../../producer/runs.ts';
import { makeContext, openRedis, type GlobalFlags } from '../context.ts';
import { age, json, out, table } from '../print.ts';

type Flags = GlobalFlags & { readonly all?: boolean; readonly json?: boolean };

export function psCommand(): Command {
  return new Command('ps')
    .description('list jobs')
    .option('-a, --all', 'also those that have ended')
    .option('--json', 'print one JSON document')
    .action(async (_: unknown, command: Command) => {
      const flags = command.optsWithGlobals<Flags>();
      await using redis = await openRedis(makeContext(flags), new AbortController().signal);
      const runs = await listRuns(redis);
      const shown = flags.all === true ? runs : runs.filter(({ state }) => unfinished.includes(state));
      if (flags.json) json({ jobs: shown });
      else
        out(
          table([
            ['ID', 'KIND', 'WHAT', 'IMAGE', 'STATE', 'AGE', 'WHERE'],
            ...shown.map((run) => row(run, Date.now())),
          ]),
        );
    });
}

const unfinished: readonly string[] = ['waiting', 'active', 'delayed'];

function row(run: RunDetails, now: number): string[] {
  const verdict = run.outcome?.result.status ?? run.failure?.class;
  return [
    run.id,
    run.kind ?? '?',
    run.what ?? '?',
    run.image ?? '?',
    verdict ?? run.state,
    age(run.submitted, now),
    run.outcome?.host ?? '',
  ];
}
