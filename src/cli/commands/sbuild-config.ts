/** `goldbed sbuild-config IMAGE`: the lines for ~/.sbuildrc with which plain sbuild builds on an image. */
import path from 'node:path';
import { Command } from 'commander';
import { nativeBackends } from '../../backends/index.ts';
import type { State } from '../../config/state.ts';
import { packageFile } from '../../exec/package-file.ts';
import { readHead } from '../../golden/index.ts';
import { UsageError } from '../../protocol/errors.ts';
import { backendNames } from '../../protocol/job-request.ts';
import { makeContext, type GlobalFlags } from '../context.ts';
import { out } from '../print.ts';
import { serverLines } from '../sbuild-config.ts';

type Flags = GlobalFlags & { readonly backend: string; readonly update?: boolean };

export function sbuildConfigCommand(): Command {
  return new Command('sbuild-config')
    .description('print the lines for ~/.sbuildrc with which sbuild builds on an image')
    .argument('IMAGE')
    .option('--backend <NAME>', 'backend of the testbed', 'overlay')
    .option('--update', 'lines of a configuration for sbuild-update alone: what went well is published')
    .action(async (image: string, _: unknown, command: Command) => {
      const flags = command.optsWithGlobals<Flags>();
      const { settings, state } = makeContext(flags);
      if (!nativeBackends(state, settings).some(({ name }) => name === flags.backend))
        throw new UsageError('--backend', `--backend: expected ${backendNames.join(', ')}; found "${flags.backend}"`);
      await readHead(state, image);
      const golden = flags.update === true ? ['--golden=commit'] : [];
      const use =
        flags.update === true ? ['# SBUILD_CONFIG=THIS-FILE sbuild-update --chroot-mode=autopkgtest -udcar x'] : [];
      const [program, ...words] = [...stateFor(flags, state), packageFile('bin/goldbed-virt')];
      const lines = serverLines(program ?? '', [...words, ...golden, flags.backend, image]);
      out([...use, lines.trimEnd(), '1;'].join('\n'));
    });
}

/** sbuild hands no environment on: a state folder that is not the usual one must stand in the lines. */
function stateFor(flags: Flags, { root }: State): readonly string[] {
  const usual = flags.state === undefined && process.env['GOLDBED_STATE'] === undefined;
  return usual ? [] : ['/usr/bin/env', `GOLDBED_STATE=${path.resolve(root)}`];
}
