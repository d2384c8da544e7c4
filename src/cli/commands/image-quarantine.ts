/** `goldbed image quarantine NAME GEN`: away from a bad generation, and what ran on it. */
import { Command } from 'commander';
import { debianArchitecture } from '../../exec/debian-architecture.ts';
import { userName } from '../../exec/user-name.ts';
import { quarantine } from '../../golden/index.ts';
import { enqueue } from '../../producer/enqueue.ts';
import { listRuns, requestOf, type RunDetails } from '../../producer/runs.ts';
import type { RedisHandle } from '../../redis/connect.ts';
import { makeContext, openRedis, type GlobalFlags } from '../context.ts';
import { age, json, out, table } from '../print.ts';
import { generationNumber } from './image-words.ts';

type Flags = GlobalFlags & { readonly json?: boolean; readonly reason: string; readonly requeue?: boolean };

export function quarantineCommand(): Command {
  const self = new Command('quarantine')
    .description('take a bad generation out of use, go back to the one before, and list what ran on it')
    .argument('NAME')
    .argument('GEN')
    .requiredOption('--reason <TEXT>', 'what is wrong with it')
    .option('--requeue', 'run the builds and tests that ran on it again, on the good one')
    .option('--json', 'print one JSON document');
  return self.action(async (name: string, word: string) => {
    const flags = self.optsWithGlobals<Flags>();
    const context = makeContext(flags);
    const generation = generationNumber(word) ?? 0;
    const current = await quarantine(context.state, name, { generation, by: userName(), reason: flags.reason });
    await using redis = await openRedis(context, new AbortController().signal);
    const affected = (await listRuns(redis)).filter((run) => ranOn(run, name, generation));
    const requeued = flags.requeue === true ? await requeue(redis, affected) : [];
    if (flags.json === true) {
      return json({
        image: name,
        quarantined: generation,
        current: current.generation,
        affected: affected.map(({ id }) => id),
        requeued,
      });
    }
    out(`${name}@${generation} is out of use; ${name}@${current.generation} is current`);
    if (affected.length === 0) return out('no job that is still known ran on it');
    const rows = affected.map((run) => [
      run.id,
      run.kind ?? '?',
      run.what ?? '?',
      run.outcome?.result.status ?? '?',
      age(run.submitted, Date.now()),
    ]);
    out(table([['RAN ON IT', 'KIND', 'WHAT', 'OUTCOME', 'AGE'], ...rows]));
    if (requeued.length > 0) out(`again, as: ${requeued.join(', ')}`);
  });
}

function ranOn({ outcome, kind }: RunDetails, image: string, generation: number): boolean {
  const ref = outcome?.generation;
  return kind !== 'update-golden' && ref?.image === image && ref.generation === generation;
}

/** @returns the ids of the new runs */
async function requeue(redis: RedisHandle, runs: readonly RunDetails[]): Promise<string[]> {
  const arch = await debianArchitecture();
  const ids: string[] = [];
  for (const { id } of runs) {
    const request = await requestOf(redis, id);
    if (request !== undefined) ids.push((await enqueue(redis, request, arch)).runId);
  }
  return [...new Set(ids)];
}
