/** `goldbed sbuild-config IMAGE`: the lines for ~/.sbuildrc with which plain sbuild builds on an image. */
import { Command } from 'commander';
import { packageFile } from '../../exec/package-file.ts';
import { readHead } from '../../golden/index.ts';
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
      const { state } = makeContext(flags);
      await readHead(state, image);
      const golden = flags.update === true ? ['--golden=commit'] : [];
      const use =
        flags.update === true ? ['# SBUILD_CONFIG=THIS-FILE sbuild-update --chroot-mode=autopkgtest -udcar x'] : [];
      out(
        [...use, serverLines(packageFile('bin/goldbed-virt'), [...golden, flags.backend, image]).trimEnd(), '1;'].join(
          '\n',
        ),
      );
    });
}
