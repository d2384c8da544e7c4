/** `goldbed build`, `goldbed test`, `goldbed image update`: make a request, hand it in, and wait if asked. */
import { Command, Option } from 'commander';
import { durationExpected, parseDuration } from '../../config/duration.ts';
import { strategyFor } from '../../config/policy.ts';
import { archiveSource, jobRequestSchema, type ArchiveSource, type JobRequest } from '../../protocol/job-request.ts';
import { UsageError } from '../../protocol/errors.ts';
import { sizeNames } from '../../protocol/size.ts';
import { resolveSource, resolveSubject } from '../../producer/source.ts';
import { makeContext, type Context, type GlobalFlags } from '../context.ts';
import { submit, type SubmitFlags } from '../submit.ts';
import { strategyOption } from './image-schedule.ts';

type Flags = GlobalFlags &
  SubmitFlags & {
    readonly image: string;
    readonly backend: string;
    readonly size?: string;
    readonly maxAge?: string;
    readonly minGeneration?: string;
  };

export function enqueueCommands(exit: (code: number) => void): { build: Command; test: Command; update: Command } {
  const build = withFreshnessFlags(withSubmitFlags(new Command('build')))
    .description('build a source package with sbuild')
    .argument('SOURCE', '.dsc, unpacked source directory, or name[=version] from the image’s archive')
    .requiredOption('--image <NAME>', 'image to build on')
    .action(async (word: string, _: unknown, command: Command) => {
      const { flags, context } = prepare(command);
      const source = await resolveSource(word, context.state.artifacts);
      exit(await submit(context, checked({ ...base(flags), ...freshness(flags), kind: 'build', source }), flags));
    });
  const test = withFreshnessFlags(withSubmitFlags(new Command('test')))
    .description('test a package with autopkgtest')
    .argument('SUBJECT', '.changes, .dsc, unpacked source directory, or name[=version]')
    .requiredOption('--image <NAME>', 'image to test on')
    .action(async (word: string, _: unknown, command: Command) => {
      const { flags, context } = prepare(command);
      const subject = await resolveSubject(word, context.state.artifacts);
      exit(await submit(context, checked({ ...base(flags), ...freshness(flags), kind: 'test', subject }), flags));
    });
  const update = withSubmitFlags(new Command('update'))
    .description('refresh an image; publishes a new generation only if something changed and it verifies')
    .argument('NAME', 'image')
    .option('--canary <PACKAGE[=VERSION]>', 'build and test it on the new generation before that is published')
    .option('--steps <LETTERS>', 'of an upgrade, as in sbuild-update: u d c a r g (default: "udcar")')
    .addOption(strategyOption())
    .action(async (image: string, own: UpdateFlags, command: Command) => {
      const { flags, context } = prepare(command);
      const usual = own.steps === undefined ? strategyFor(context.settings.images.policy, image) : 'upgrade';
      const { steps, strategy = usual } = own;
      if (steps !== undefined && strategy === 'replace')
        throw new UsageError('--steps', '--steps: a replacement has none: it bootstraps the image anew');
      const wishes = { ...(steps === undefined ? {} : { steps }), ...canaryOf(own) };
      const request = { ...base({ ...flags, image }), kind: 'update-golden', strategy, ...wishes };
      exit(await submit(context, checked(request), flags));
    });
  return { build, test, update };
}

interface UpdateFlags {
  readonly steps?: string;
  readonly strategy?: string;
  readonly canary?: string;
}

function canaryOf({ canary }: UpdateFlags): { readonly canary?: ArchiveSource } {
  if (canary === undefined) return {};
  try {
    return { canary: archiveSource(canary) };
  } catch {
    const expected = 'expected the name of a source package, or NAME=VERSION';
    throw new UsageError('--canary', `--canary: ${expected}, found "${canary}"`);
  }
}

function withSubmitFlags(command: Command): Command {
  return command
    .option('--backend <NAME>', 'backend of the testbed', 'any')
    .addOption(sizeOption())
    .option('--wait', 'wait for the end; the exit code is the client’s own')
    .option('--reuse', 'take the recorded result if the same request has ended before')
    .option('--tenant <NAME>', 'for whom: the jobs of tenants take turns (default: your login name)')
    .option('--label <LABEL>', 'what it belongs to, for ps, cancel and pause; may be given several times', collect)
    .option('--deadline <AGE>', 'cancel it if it has not ended after so long: 6h, 90m')
    .option('--json', 'print one JSON document')
    .option('-o, --output <DIR>', 'copy log and artifacts there (implies --wait)');
}

function sizeOption(): Option {
  const what = 'what a host sets aside for it; the client is told how many processors that are (default: as m, untold)';
  return new Option('--size <SIZE>', what).choices(sizeNames);
}

function collect(word: string, before: readonly string[] = []): string[] {
  return [...before, word];
}

function withFreshnessFlags(command: Command): Command {
  return command
    .option('--max-age <AGE>', 'refresh the image first if nobody has for so long: 12h, 30m, 2d')
    .option('--min-generation <N>', 'refresh the image first if its generation is lower')
    .addHelpText('after', freshnessHelp);
}

const freshnessHelp = `
The age of an image counts from when it was made, updated, or last found up to date. However many jobs ask, it is refreshed
once, and they wait for it without a slot; goldbed ps says so. If it cannot be refreshed they fail, with exit code 76.`;

/** @throws {UsageError} */
function freshness({ maxAge, minGeneration }: Flags): { maxAge?: number; minGeneration?: number } {
  const seconds = maxAge === undefined ? undefined : parseDuration(maxAge);
  if (maxAge !== undefined && seconds === undefined)
    throw new UsageError('--max-age', `--max-age: ${durationExpected}; found "${maxAge}"`);
  if (minGeneration !== undefined && !/^[1-9]\d{0,8}$/.test(minGeneration))
    throw new UsageError('--min-generation', `--min-generation: expected a number, found "${minGeneration}"`);
  return {
    ...(seconds === undefined ? {} : { maxAge: seconds }),
    ...(minGeneration === undefined ? {} : { minGeneration: Number(minGeneration) }),
  };
}

function prepare(command: Command): { flags: Flags; context: Context } {
  const flags = command.optsWithGlobals<Flags>();
  return { flags, context: makeContext(flags) };
}

function base({ image, backend, size }: Pick<Flags, 'image' | 'backend' | 'size'>): Record<string, unknown> {
  return { v: 1, image, backend, ...(size === undefined ? {} : { size }) };
}

/** The last place at which a string of the user's can be wrong. @throws {UsageError} */
function checked(request: Record<string, unknown>): JobRequest {
  const parsed = jobRequestSchema.safeParse(request);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const key = issue?.path.join('.') || 'request';
  throw new UsageError(key, `${key}: ${issue?.message ?? 'invalid'}`);
}
