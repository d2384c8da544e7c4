/** `goldbed image`: making, updating and showing images; image-look.ts and image-change.ts have the rest. */
import { Command } from 'commander';
import {
  createImage,
  listImages,
  showImage,
  type ImageDetails,
  type ImageSummary,
  type Remark,
} from '../../golden/index.ts';
import { messageOf } from '../../protocol/errors.ts';
import { generationId } from '../../protocol/image.ts';
import { listSchedules, type KnownSchedule } from '../../producer/schedules.ts';
import { makeContext, openRedis, type Context, type GlobalFlags } from '../context.ts';
import { hasRedis, leasesOf, type KnownLease } from '../leases.ts';
import { waitingText, writerText } from '../lease-text.ts';
import { age, ahead, json, out, progress, size, table } from '../print.ts';
import { changeCommands } from './image-change.ts';
import { flattenCommand } from './image-flatten.ts';
import { lookCommands } from './image-look.ts';
import { quarantineCommand } from './image-quarantine.ts';
import { scheduleCommand } from './image-schedule.ts';
import { lockWaitOption, makingTools, stopSignal } from './image-words.ts';

type Flags = GlobalFlags & { readonly json?: boolean };
type CreateFlags = Flags & { lockWait: string; suite: string; variant: string; include?: string; components?: string };

export function imageCommand(exit: (code: number) => void, update: Command): Command {
  const create = new Command('create')
    .description('make a new image with mmdebstrap, from this host’s own apt configuration')
    .argument('NAME', 'for example bookworm-amd64')
    .requiredOption('--suite <SUITE>', 'for example bookworm, trixie, sid')
    .option('--variant <VARIANT>', 'mmdebstrap’s variant', 'buildd')
    .option('--include <PACKAGES>', 'further packages, separated by commas')
    .option('--components <LIST>', 'archive components, separated by commas')
    .option(...lockWaitOption)
    .option('--json', 'print one JSON document')
    .action(async (name: string, _: unknown, command: Command) => {
      const flags = command.optsWithGlobals<CreateFlags>();
      await bootstrap(makeContext(flags), name, flags);
      exit(0);
    });
  const ls = new Command('ls')
    .description('list images')
    .option('--json', 'print one JSON document')
    .action(async (_: unknown, command: Command) => {
      const flags = command.optsWithGlobals<Flags>();
      const context = makeContext(flags);
      const images = await withRedis(context, await listImages(context.state));
      if (flags.json) json({ images });
      else
        out(
          table([['IMAGE', 'GEN', 'AGE', 'SIZE', 'SESSIONS', 'LEASE', 'NEXT REFRESH', 'STATUS'], ...images.map(row)]),
        );
    });
  const show = new Command('show')
    .description('show one image and its generations')
    .argument('NAME', 'image')
    .option('--json', 'print one JSON document')
    .action(async (name: string, _: unknown, command: Command) => {
      const flags = command.optsWithGlobals<Flags>();
      await describe(makeContext(flags), name, flags);
    });
  const image = new Command('image').description('golden images and their generations');
  for (const one of [
    create,
    update,
    ls,
    show,
    ...lookCommands(exit),
    ...changeCommands(),
    flattenCommand(exit),
    quarantineCommand(),
    scheduleCommand(),
  ])
    image.addCommand(one);
  return image;
}

async function bootstrap(context: Context, name: string, flags: CreateFlags): Promise<void> {
  const request = {
    name,
    suite: flags.suite,
    variant: flags.variant,
    ...(flags.include === undefined ? {} : { include: words(flags.include) }),
    ...(flags.components === undefined ? {} : { components: words(flags.components) }),
  };
  const record = await createImage(request, await makingTools(context, name, flags.lockWait), stopSignal());
  if (flags.json) json({ record });
  else out(`${generationId(record)}  ${record.packages} packages  ${size(record.bytes)}  ${record.digest}`);
}

async function describe({ state }: Context, name: string, flags: Flags): Promise<void> {
  const image = await showImage(state, name);
  if (flags.json) {
    json({ image });
    return;
  }
  const { recipe } = image.head;
  const extra = recipe.include.length === 0 ? '' : ` with ${recipe.include.join(', ')}`;
  out(
    `${image.name}  ${recipe.suite} ${recipe.arch} ${recipe.variant}${extra}  ${size(image.bytes)}  ${statusOf(image)}`,
  );
  const rows = image.all.map(({ record, current, pins, kept, quarantined }) => [
    `${current ? '*' : ' '} ${record.generation}`,
    age(Date.parse(record.created), Date.now()),
    record.strategy,
    String(record.packages),
    size(record.layers.at(-1)?.bytes ?? 0),
    record.by,
    [
      ...(quarantined === undefined ? [] : [`quarantined by ${remarkText(quarantined)}`]),
      ...(kept === undefined ? [] : [`kept by ${remarkText(kept)}`]),
    ].join('; ') || '-',
    String(pins.length),
    record.digest.slice(0, 19),
  ]);
  out(table([['  GEN', 'AGE', 'STRATEGY', 'PACKAGES', 'LAYER', 'BY', 'REMARKS', 'PINS', 'DIGEST'], ...rows]));
  out(pinsTable(image));
  for (const { at, by, step, reason, folder } of image.failed) {
    out(`  failed ${age(Date.parse(at), Date.now())} ago, ${by}: ${step}: ${reason}\n    log and manifest: ${folder}`);
  }
}

/** Who keeps which generation from being removed, and since when. */
function pinsTable({ all }: ImageDetails): string {
  const rows = all.flatMap(({ record, pins }) =>
    pins.map(({ what, by, process, since }) => [
      `  ${record.generation}`,
      what,
      `${by ?? '?'} (process ${process.pid})`,
      age(Date.parse(since), Date.now()),
    ]),
  );
  return rows.length === 0 ? '  no session uses it' : table([['  GEN', 'IN USE BY', 'WHOSE', 'SINCE'], ...rows]);
}

function remarkText({ by, since, reason }: Remark): string {
  return `${by}, ${age(Date.parse(since), Date.now())} ago: ${reason}`;
}

type Listed = ImageSummary & { readonly schedule?: KnownSchedule; readonly leases: readonly KnownLease[] };

/** Schedules, and leases of the fleet, are in Redis; what is on this disk can be told without one. */
async function withRedis(context: Context, images: readonly ImageSummary[]): Promise<Listed[]> {
  const names = images.map(({ name }) => name);
  const listed = (leases: readonly KnownLease[], schedules: readonly KnownSchedule[] = []): Listed[] =>
    images.map((image) => {
      const schedule = schedules.find((one) => one.image === image.name);
      const own = leases.filter((one) => one.image === image.name);
      return { ...image, ...(schedule === undefined ? {} : { schedule }), leases: own };
    });
  if (!hasRedis(context)) return listed(await leasesOf(context, names, undefined));
  try {
    await using handle = await openRedis(context, new AbortController().signal);
    return listed(await leasesOf(context, names, handle), await listSchedules(handle));
  } catch (error) {
    progress(`goldbed: schedules and leases are not known: ${messageOf(error)}`); // another user's Redis, or it is away
    return listed(await leasesOf(context, names, undefined));
  }
}

function row(image: Listed): string[] {
  return [
    image.name,
    String(image.head.generation),
    age(Date.now() - image.age * 1000, Date.now()),
    size(image.bytes),
    String(image.sessions),
    leaseOf(image),
    image.schedule === undefined ? '-' : `${image.schedule.cron} (${ahead(image.schedule.next, Date.now())})`,
    statusOf(image),
  ];
}

/** Who writes it, and who waits to. */
function leaseOf({ writer, leases }: Listed): string {
  const holders = leases.length === 0 && writer !== undefined ? [writer] : leases; // one of this host needs no Redis
  const waiting = waitingText(leases.flatMap((lease) => lease.waiting));
  return `${holders.map(writerText).join(' and ') || '-'}${waiting === '' ? '' : `, then ${waiting}`}`;
}

function statusOf({ looked, head }: ImageSummary): string {
  if (looked.failed !== undefined)
    return `refresh failed in ${looked.failed.step}: ${looked.failed.reason} (${head.generation} kept)`;
  return 'current';
}

function words(list: string): string[] {
  return list.split(',').filter(Boolean);
}
