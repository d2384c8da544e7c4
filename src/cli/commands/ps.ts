/** `goldbed ps`: jobs that wait or run, and with --all those that have ended. */
import { Command } from 'commander';
import { listRuns, type RunDetails } from '../../producer/runs.ts';
import { pauseReasons } from '../../producer/why.ts';
import type { Paused } from '../../protocol/paused.ts';
import { pausedNow } from '../../redis/paused.ts';
import { makeContext, openRedis, type GlobalFlags } from '../context.ts';
import { describeWait } from '../outcome-text.ts';
import { age, json, out, table } from '../print.ts';

type Flags = GlobalFlags & { readonly all?: boolean; readonly json?: boolean; readonly label?: string };

export function psCommand(): Command {
  return new Command('ps')
    .description('list jobs')
    .option('-a, --all', 'also those that have ended')
    .option('--label <LABEL>', 'only those that carry it')
    .option('--json', 'print one JSON document')
    .action(async (_: unknown, command: Command) => {
      const flags = command.optsWithGlobals<Flags>();
      await using redis = await openRedis(makeContext(flags), new AbortController().signal);
      const runs = await listRuns(redis);
      const paused = await pausedNow(redis);
      const shown = runs.filter(({ state, labels = [] }) => {
        if (flags.label !== undefined && !labels.includes(flags.label)) return false;
        return flags.all === true || unfinished.includes(state);
      });
      if (flags.json) json({ jobs: shown });
      else
        out(
          table([
            ['ID', 'KIND', 'WHAT', 'IMAGE', 'STATE', 'AGE', 'WHERE', 'WHY'],
            ...shown.map((run) => row(run, paused, Date.now())),
          ]),
        );
    });
}

const unfinished: readonly string[] = ['waiting', 'active', 'delayed'];

function row(run: RunDetails, paused: Paused, now: number): string[] {
  const verdict = run.outcome?.result.status ?? run.failure?.class;
  return [
    run.id,
    run.kind ?? '?',
    run.what ?? '?',
    run.image ?? '?',
    verdict ?? run.state,
    age(run.submitted, now),
    run.outcome?.host ?? '',
    describeWait(run, now) ??
      (unfinished.includes(run.state) && run.state !== 'active' ? pauseReasons(run, paused)[0] : '') ??
      '',
  ];
}
