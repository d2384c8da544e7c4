/** `goldbed ps`: jobs that wait or run, and with --all those that have ended. */
import { Command } from 'commander';
import { listAll, listOpen, type Listed, type ListedRun } from '../../producer/list.ts';
import { runsOfLabel } from '../../producer/select.ts';
import type { RedisHandle } from '../../redis/connect.ts';
import { makeContext, openRedis, type GlobalFlags } from '../context.ts';
import { describeWait } from '../outcome-text.ts';
import { age, json, out, progress, table } from '../print.ts';

type Flags = GlobalFlags & { readonly all?: boolean; readonly json?: boolean; readonly label?: string };

/** Jobs that are shown. */
const most = 1000;

export function psCommand(): Command {
  return new Command('ps')
    .description(`list jobs, at most ${most}`)
    .option('-a, --all', 'also those that have ended')
    .option('--label <LABEL>', 'only those that carry it')
    .option('--json', 'print one JSON document')
    .action(async (_: unknown, command: Command) => {
      const flags = command.optsWithGlobals<Flags>();
      await using redis = await openRedis(makeContext(flags), new AbortController().signal);
      const { runs, more } = await list(redis, flags);
      if (flags.json) return json({ jobs: runs, more });
      const head = ['ID', 'KIND', 'WHAT', 'IMAGE', 'STATE', 'AGE', 'WHERE', 'WAITS FOR'];
      out(table([head, ...runs.map((run) => row(run, Date.now()))]));
      if (more > 0) progress(`and ${more} more`);
    });
}

async function list(redis: RedisHandle, { all, label }: Flags): Promise<Listed> {
  const ids = label === undefined ? undefined : (await runsOfLabel(redis, label)).toReversed();
  if (all !== true) return listOpen(redis, most, ids);
  return listAll(redis, ids ?? (await redis.client.zrevrange(redis.keys.runs, 0, -1)), most);
}

function row(run: ListedRun, now: number): string[] {
  const verdict = run.outcome?.result.status ?? run.failure?.class;
  return [
    run.id,
    run.kind ?? '?',
    run.what ?? '?',
    run.image ?? '?',
    verdict ?? run.state,
    age(run.submitted, now),
    run.host ?? '',
    run.why ?? describeWait(run, now) ?? '',
  ];
}
