/** `goldbed image quarantine NAME GEN`: away from a bad generation, and what ran on it. */
import { Command } from 'commander';
import { debianArchitecture } from '../../exec/debian-architecture.ts';
import { userName } from '../../exec/user-name.ts';
import { jobsOn, quarantine } from '../../golden/index.ts';
import { runAgain } from '../../producer/run-again.ts';
import type { RedisHandle } from '../../redis/connect.ts';
import { makeContext, openRedis, type GlobalFlags } from '../context.ts';
import { age, json, out, progress, table } from '../print.ts';
import { ranOn, type RanOn } from '../ran-on.ts';
import { generationNumber, stopSignal } from './image-words.ts';

type Flags = GlobalFlags & { readonly json?: boolean; readonly reason: string; readonly requeue?: boolean };

export function quarantineCommand(): Command {
  const self = new Command('quarantine')
    .description('take a bad generation out of use, go back to the one before, and list what ran on it')
    .argument('NAME')
    .argument('GEN')
    .requiredOption('--reason <TEXT>', 'what is wrong with it')
    .option(
      '--requeue',
      'run the builds and tests that ran on it again, on the good one; those that still run on it are stopped',
    )
    .option('--json', 'print one JSON document');
  return self.action(async (name: string, word: string) => {
    const flags = self.optsWithGlobals<Flags>();
    const context = makeContext(flags);
    const generation = generationNumber(word) ?? 0;
    const current = await quarantine(context.state, name, { generation, by: userName(), reason: flags.reason });
    const on = await jobsOn(context.state, name, generation); // who begins from now on has the good one
    const done = `${name}@${generation} is out of use; ${name}@${current.generation} is current`;
    if (flags.json !== true) out(done); // before Redis is asked: it may be away
    await using redis = await openRedis(context, new AbortController().signal);
    const found = await ranOn(redis, context.state, name, on);
    const reason = `${name}@${generation} is in quarantine: ${flags.reason}`;
    const again = flags.requeue === true ? await requeue(redis, found, reason) : [];
    if (flags.json === true) {
      const affected = found.map(({ run }) => run.id);
      const running = found.filter((one) => one.running).map(({ run }) => run.id);
      const requeued = [...new Set(again.map(({ id }) => id))];
      return json({ image: name, quarantined: generation, current: current.generation, affected, running, requeued });
    }
    if (found.length === 0) return out('no job that is still known ran on it');
    out(table([['RAN ON IT', 'KIND', 'WHAT', 'OUTCOME', 'AGE', 'AGAIN AS'], ...found.map((one) => row(one, again))]));
  });
}

interface Again {
  readonly of: string;
  readonly id: string;
}

function row({ run, running }: RanOn, again: readonly Again[]): string[] {
  const how = running ? 'running' : (run.outcome?.result.status ?? `failed: ${run.failure?.message ?? '?'}`);
  const as = again.find(({ of }) => of === run.id)?.id ?? '-';
  return [run.id, run.kind ?? '?', run.what ?? '?', how, age(run.submitted, Date.now()), as];
}

/** Newest first: of the runs of one request the one that still runs is stopped before another is handed in. */
async function requeue(redis: RedisHandle, found: readonly RanOn[], reason: string): Promise<Again[]> {
  const [arch, signal] = [await debianArchitecture(), stopSignal()];
  const again: Again[] = [];
  for (const { run, running } of found) {
    if (running) progress(`stopping ${run.id}, which runs on it`);
    const id = await runAgain(redis, run.id, running ? reason : undefined, arch, signal);
    if (id === undefined) progress(`${run.id}: what it was asked to do is not known any more`);
    else again.push({ of: run.id, id });
  }
  return again;
}
