/** `goldbed cancel | pause | resume`: for one job, or for all of a label, an image, a host. */
import { Command } from 'commander';
import { drainHost, findHost, resumeHost } from '../../producer/hosts.ts';
import { pause, resume } from '../../producer/pause.ts';
import { cancelRun, findRun, type RunDetails } from '../../producer/runs.ts';
import { runsOfImage, runsOfLabel, runsOnHost } from '../../producer/select.ts';
import { UsageError } from '../../protocol/errors.ts';
import { pausedText } from '../../protocol/paused.ts';
import { cancelRuns } from '../../redis/cancel.ts';
import type { RedisHandle } from '../../redis/connect.ts';
import { pausedNow } from '../../redis/paused.ts';
import { makeContext, openRedis, type GlobalFlags } from '../context.ts';
import { age, json, out, table } from '../print.ts';

interface Choice {
  readonly label?: string;
  readonly image?: string;
  readonly host?: string;
}
type Flags = GlobalFlags & Choice & { readonly reason?: string; readonly json?: boolean };

/** In the order of the words that people use for them. */
const whole = ['label', 'image', 'host'] as const;

export function cancelCommand(): Command {
  const command = new Command('cancel')
    .description('stop jobs, whether they wait or run, and free what they hold')
    .argument('[ID]', 'one job: its id, or the beginning of it');
  return withChoice(command, 'all jobs')
    .option('--reason <TEXT>', 'shown to whoever asks', 'cancelled by goldbed cancel')
    .action(async (prefix: string | undefined, flags: Flags) => {
      await using redis = await redisFor(command);
      const reason = flags.reason ?? '';
      if (prefix !== undefined) {
        const run = await oneJob('cancel', redis, prefix, flags);
        await cancelRun(redis, run.id, reason);
        out(`${run.id} cancelled`);
        return;
      }
      const [kind, name] = chosen('cancel', flags);
      const find = { label: runsOfLabel, image: runsOfImage, host: runsOnHost }[kind];
      const cancelled = await cancelRuns(redis, await find(redis, name), reason);
      out(`${cancelled.length} ${cancelled.length === 1 ? 'job' : 'jobs'} of ${kind} ${name} cancelled`);
    });
}

export function pauseCommand(): Command {
  const command = new Command('pause')
    .description('begin no more jobs; what runs goes on. Without an ID and an option: what is paused')
    .argument('[ID]', 'one job: its id, or the beginning of it');
  return withChoice(command, 'jobs')
    .option('--reason <TEXT>', 'shown to whoever asks', 'paused by goldbed pause')
    .option('--json', 'print one JSON document')
    .action(async (prefix: string | undefined, flags: Flags) => {
      await using redis = await redisFor(command);
      if (prefix !== undefined) return await pauseOne(redis, await oneJob('pause', redis, prefix, flags), flags);
      if (whole.every((kind) => flags[kind] === undefined)) return await showPaused(redis, flags.json === true);
      const [kind, name] = chosen('pause', flags);
      if (kind === 'host') await drainHost(redis, (await findHost(redis, name)).host, flags.reason ?? '');
      else await pause(redis, `${kind}:${name}`, flags.reason ?? '');
      if (flags.json === true) json({ paused: `${kind}:${name}` });
      else out(`no more jobs of ${kind} ${name} are begun. Again: goldbed resume --${kind} ${name}`);
    });
}

export function resumeCommand(): Command {
  const command = new Command('resume')
    .description('begin jobs again that were paused')
    .argument('[ID]', 'one job: its id, or the beginning of it');
  return withChoice(command, 'jobs').action(async (prefix: string | undefined, flags: Flags) => {
    await using redis = await redisFor(command);
    if (prefix !== undefined) {
      const { id } = await oneJob('resume', redis, prefix, flags);
      await resume(redis, `job:${id}`);
      return out(`${id} is begun again as soon as it can`);
    }
    const [kind, name] = chosen('resume', flags);
    if (kind !== 'host') await resume(redis, `${kind}:${name}`);
    else if (!(await resumeHost(redis, name))) throw new UsageError(name, `${name} is not drained`);
    out(`jobs of ${kind} ${name} are begun again`);
  });
}

async function pauseOne(redis: RedisHandle, { id, state }: RunDetails, flags: Flags): Promise<void> {
  if (!['waiting', 'delayed', 'active'].includes(state)) throw new UsageError(id, `${id} has ended: ${state}`);
  await pause(redis, `job:${id}`, flags.reason ?? '');
  if (flags.json === true) return json({ paused: `job:${id}`, state });
  const now = state === 'active' ? 'runs, and goes on; it is not begun once more' : 'is not begun';
  out(`${id} ${now}. Again: goldbed resume ${id}`);
}

/** @throws {UsageError} there is none, or something else was named as well */
async function oneJob(verb: string, redis: RedisHandle, prefix: string, flags: Choice): Promise<RunDetails> {
  if (whole.some((kind) => flags[kind] !== undefined)) throw choose(verb);
  return findRun(redis, prefix);
}

async function showPaused(redis: RedisHandle, asJson: boolean): Promise<void> {
  const paused = [...(await pausedNow(redis))].map(([name, { reason, since }]) => ({ name, reason, since }));
  if (asJson) return json({ paused });
  const rows = paused.map(({ name, reason, since }) => [pausedText(name), age(since, Date.now()), reason]);
  out(rows.length === 0 ? 'nothing is paused' : table([['PAUSED', 'SINCE', 'REASON'], ...rows]));
}

function withChoice(command: Command, what: string): Command {
  return command
    .option('--label <LABEL>', `${what} that carry it`)
    .option('--image <NAME>', `${what} on it`)
    .option('--host <NAME>', `${what} that it runs`);
}

/** @throws {UsageError} none, or more than one */
function chosen(verb: string, flags: Choice): [(typeof whole)[number], string] {
  const given = whole.flatMap((kind) => (flags[kind] === undefined ? [] : [[kind, flags[kind]] as const]));
  const [only] = given;
  if (only === undefined || given.length > 1) throw choose(verb);
  return [only[0], only[1]];
}

function choose(verb: string): UsageError {
  return new UsageError(verb, `${verb}: expected exactly one of an ID, --label, --image and --host`);
}

function redisFor(command: Command): Promise<RedisHandle> {
  return openRedis(makeContext(command.optsWithGlobals<GlobalFlags>()), new AbortController().signal);
}
