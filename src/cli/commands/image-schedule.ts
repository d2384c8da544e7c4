/** `goldbed image schedule`: refreshes that nobody has to ask for. */
import { Command, Option } from 'commander';
import { cronProblem, hostTimeZone, timeZoneProblem } from '../../config/cron.ts';
import { strategyFor } from '../../config/policy.ts';
import { userName } from '../../exec/user-name.ts';
import { UsageError } from '../../protocol/errors.ts';
import { listSchedules, removeSchedule, setSchedule, type KnownSchedule } from '../../producer/schedules.ts';
import type { RedisHandle } from '../../redis/connect.ts';
import { configuredSchedules } from '../configured-schedules.ts';
import { makeContext, openRedis, type Context, type GlobalFlags } from '../context.ts';
import { ahead, json, out, table } from '../print.ts';
import { requireImage } from '../require-image.ts';

type Flags = GlobalFlags & {
  readonly json?: boolean;
  readonly cron?: string;
  readonly timeZone?: string;
  readonly strategy?: 'upgrade' | 'replace';
  readonly rm?: boolean;
  readonly ls?: boolean;
};

export function scheduleCommand(): Command {
  const self = new Command('schedule')
    .description('refresh images at certain times; lists the schedules unless told to make or remove one')
    .argument('[NAME]', 'image')
    .option('--cron <PATTERN>', 'when: minute, hour, day of month, month, day of week, as in "0 3 * * *"')
    .option('--time-zone <ZONE>', 'of the pattern, such as Europe/Berlin (default: that of this host)')
    .addOption(strategyOption())
    .option('--rm', 'remove it')
    .option('--ls', 'list the schedules')
    .option('--json', 'print one JSON document')
    .addHelpText('after', help);
  return self.action(async (name: string | undefined) => {
    const flags = self.optsWithGlobals<Flags>();
    const context = makeContext(flags);
    const image = checked(context, name, flags);
    await using redis = await openRedis(context, new AbortController().signal);
    if (image !== undefined && flags.cron !== undefined) await make(context, redis, image, flags.cron, flags);
    else if (image !== undefined && flags.rm === true) await remove(redis, image, flags);
    else show(await listSchedules(redis), name, flags);
  });
}

export function strategyOption(): Option {
  const what = 'upgrade what is there, or bootstrap anew (default: the image’s policy, else upgrade)';
  return new Option('--strategy <STRATEGY>', what).choices(['upgrade', 'replace']);
}

const help = `
A schedule lives in Redis: whichever worker has the image runs the update. A time at which no worker was there is made up
for once, however many of them were missed. Each image has its own: one that fails stops no other, and is tried again at
its next time. For what the configuration says (images.policy.NAME.schedule), change the configuration.`;

/** @returns the image, where one is needed @throws {UsageError} */
function checked({ settings }: Context, name: string | undefined, flags: Flags): string | undefined {
  const { cron, timeZone, rm, ls } = flags;
  if ([cron, rm, ls].filter((one) => one !== undefined).length > 1)
    throw new UsageError('--cron', 'expected one of --cron, --rm and --ls');
  for (const [flag, value] of [['--time-zone', timeZone] as const, ['--strategy', flags.strategy] as const])
    if (value !== undefined && cron === undefined) throw new UsageError(flag, `${flag} goes with --cron`);
  if (cron === undefined && rm === undefined) return undefined;
  const flag = cron === undefined ? '--rm' : '--cron';
  if (name === undefined) throw new UsageError(flag, `${flag}: expected the NAME of an image as well`);
  const problem = cron === undefined ? undefined : cronProblem(cron);
  if (problem !== undefined) throw new UsageError('--cron', `--cron: ${problem}`);
  const zoneProblem = timeZone === undefined ? undefined : timeZoneProblem(timeZone);
  if (zoneProblem !== undefined) throw new UsageError('--time-zone', `--time-zone: ${zoneProblem}`);
  if (configuredSchedules(settings).some(({ image }) => image === name)) {
    const key = `images.policy.${name}.schedule`;
    throw new UsageError(
      name,
      `the schedule of ${name} is in the configuration of this host (${key}): change it there`,
    );
  }
  return name;
}

async function make(context: Context, redis: RedisHandle, image: string, cron: string, flags: Flags): Promise<void> {
  const arch = await requireImage(context, redis, image);
  if (context.settings.external[image] !== undefined)
    throw new UsageError(image, `${image} is opened by an external server: it cannot be refreshed`);
  const { timeZone = hostTimeZone(), strategy = strategyFor(context.settings.images.policy, image) } = flags;
  const wanted = { image, cron, timeZone, strategy, by: userName() };
  const made = await setSchedule(redis, wanted, arch);
  if (flags.json === true) json({ schedule: made });
  else out(`${image}: ${made.strategy} at ${cron} ${timeZone}, next ${when(made.next)}`);
}

async function remove(redis: RedisHandle, image: string, flags: Flags): Promise<void> {
  if (!(await removeSchedule(redis, image))) throw new UsageError(image, `${image} has no schedule`);
  if (flags.json === true) json({ removed: image });
  else out(`${image}: has no schedule any more`);
}

function show(all: readonly KnownSchedule[], name: string | undefined, flags: Flags): void {
  const schedules = all.filter(({ image }) => name === undefined || image === name);
  if (flags.json === true) return json({ schedules });
  const rows = schedules.map((one) => [one.image, one.cron, one.timeZone, one.strategy, when(one.next), one.by]);
  out(table([['IMAGE', 'SCHEDULE', 'TIME ZONE', 'STRATEGY', 'NEXT', 'BY'], ...rows]));
}

function when(next: number): string {
  const text = new Date(next).toISOString();
  return `${text.slice(0, 16).replace('T', ' ')} UTC (${ahead(next, Date.now())})`;
}
