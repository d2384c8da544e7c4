/** `goldbed build`, `goldbed test`, `goldbed image update`: make a request, hand it in, and wait if asked. */
import { Command } from 'commander';
import { jobRequestSchema, type JobRequest } from '../../protocol/job-request.ts';
import { UsageError } from '../../protocol/errors.ts';
import { resolveSource, resolveSubject } from '../../producer/source.ts';
import { makeContext, type Context, type GlobalFlags } from '../context.ts';
import { submit, type SubmitFlags } from '../submit.ts';

type Flags = GlobalFlags & SubmitFlags & { readonly image: string; readonly backend: string };

export function enqueueCommands(exit: (code: number) => void): { build: Command; test: Command; update: Command } {
  const build = withSubmitFlags(new Command('build'))
    .description('build a source package with sbuild')
    .argument('SOURCE', '.dsc, unpacked source directory, or name[=version] from the image’s archive')
    .requiredOption('--image <NAME>', 'image to build on')
    .action(async (word: string, _: unknown, command: Command) => {
      const { flags, context } = prepare(command);
      const source = await resolveSource(word, context.state.artifacts);
      exit(await submit(context, checked({ ...base(flags), kind: 'build', source }), flags));
    });
  const test = withSubmitFlags(new Command('test'))
    .description('test a package with autopkgtest')
    .argument('SUBJECT', '.changes, .dsc, unpacked source directory, or name[=version]')
    .requiredOption('--image <NAME>', 'image to test on')
    .action(async (word: string, _: unknown, command: Command) => {
      const { flags, context } = prepare(command);
      const subject = await resolveSubject(word, context.state.artifacts);
      exit(await submit(context, checked({ ...base(flags), kind: 'test', subject }), flags));
    });
  const update = withSubmitFlags(new Command('update'))
    .description('refresh an image; publishes a new generation only if something changed and it verifies')
    .argument('NAME', 'image')
    .option('--steps <LETTERS>', 'as in sbuild-update: u d c a r g', 'udcar')
    .action(async (image: string, { steps }: { steps: string }, command: Command) => {
      const { flags, context } = prepare(command);
      const request = { ...base({ ...flags, image }), kind: 'update-golden', strategy: 'upgrade', steps };
      exit(await submit(context, checked(request), flags));
    });
  return { build, test, update };
}

function withSubmitFlags(command: Command): Command {
  return command
    .option('--backend <NAME>', 'backend of the testbed', 'any')
    .option('--wait', 'wait for the end; the exit code is the client’s own')
    .option('--reuse', 'take the recorded result if the same request has ended before')
    .option('--json', 'print one JSON document')
    .option('-o, --output <DIR>', 'copy log and artifacts there (implies --wait)');
}

function prepare(command: Command): { flags: Flags; context: Context } {
  const flags = command.optsWithGlobals<Flags>();
  return { flags, context: makeContext(flags) };
}

function base({ image, backend }: { image: string; backend: string }): Record<string, unknown> {
  return { v: 1, image, backend };
}

/** The last place at which a string of the user's can be wrong. @throws {UsageError} */
function checked(request: Record<string, unknown>): JobRequest {
  const parsed = jobRequestSchema.safeParse(request);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const key = issue?.path.join('.') || 'request';
  throw new UsageError(key, `${key}: ${issue?.message ?? 'invalid'}`);
}
