/** The command line of `goldbed`: names, flags and help; each command is a file in commands/. */
import { Command, CommanderError } from 'commander';
import { ConfigError } from '../config/config-error.ts';
import { packageVersion } from '../exec/package-file.ts';
import {
  exitCodes,
  HostError,
  ImageError,
  Interruption,
  messageOf,
  TestbedError,
  UnavailableError,
  UsageError,
} from '../protocol/errors.ts';
import { isHostFailure } from '../protocol/host-failure.ts';
import { GoldenRefusal } from '../protocol/testbed.ts';
import { isRefusal } from '../redis/persist.ts';
import { configCommand } from './commands/config.ts';
import { cancelCommand, pauseCommand, resumeCommand } from './commands/control.ts';
import { enqueueCommands } from './commands/enqueue.ts';
import { hostCommand } from './commands/host.ts';
import { imageCommand } from './commands/image.ts';
import { leaseCommand } from './commands/lease.ts';
import { logsCommand } from './commands/logs.ts';
import { psCommand } from './commands/ps.ts';
import { showCommand } from './commands/show.ts';
import { goldenUpdateCommand } from './commands/golden-update.ts';
import { sbuildConfigCommand } from './commands/sbuild-config.ts';
import { whyCommand } from './commands/why.ts';
import { workerCommand } from './commands/worker.ts';

/** Runs one command line. @returns the exit code; never throws */
export async function main(args: readonly string[]): Promise<number> {
  let code = 0;
  const exit = (value: number): void => void (code = value);
  const program = new Command('goldbed')
    .description('build, test and refresh images of Debian packages as queued jobs')
    .version(packageVersion(), '--version', 'print the version')
    .option('--state <DIR>', 'state folder (GOLDBED_STATE)')
    .option('--redis-url <URL>', 'Redis to use instead of the embedded one (GOLDBED_REDIS_URL)')
    .option('--allow-unsafe-redis', 'accept a Redis that may evict or does not persist')
    .exitOverride()
    .configureOutput({ outputError: (text) => process.stderr.write(text) });
  const { build, test, update } = enqueueCommands(exit);
  program.addCommand(build).addCommand(test).addCommand(imageCommand(exit, update)).addCommand(workerCommand(exit));
  program.addCommand(psCommand()).addCommand(showCommand()).addCommand(logsCommand()).addCommand(cancelCommand());
  program.addCommand(goldenUpdateCommand(exit)).addCommand(sbuildConfigCommand()).addCommand(leaseCommand());
  program.addCommand(pauseCommand()).addCommand(resumeCommand()).addCommand(hostCommand()).addCommand(whyCommand());
  program.addCommand(configCommand());
  for (const command of everyCommand(program)) command.exitOverride();
  try {
    await program.parseAsync(args, { from: 'user' });
    return code;
  } catch (error) {
    return report(error);
  }
}

/** One line on stderr, and the exit code of the error's class. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : exitCodes.usage; // commander has said why
  process.stderr.write(`goldbed: ${messageOf(error)}\n`);
  if (error instanceof UsageError) return exitCodes.usage;
  if (error instanceof ConfigError) return exitCodes.config;
  if (error instanceof UnavailableError) return exitCodes.unavailable;
  if ([TestbedError, HostError, ImageError].some((kind) => error instanceof kind)) return exitCodes.infrastructure;
  if (error instanceof Interruption) return exitCodes.interrupted;
  // as with `image update`: not good enough, and the old generation stays; else somebody else writes it
  if (error instanceof GoldenRefusal) return error.word === 'commit-failed' ? 1 : exitCodes.infrastructure;
  if (isRefusal(error)) return exitCodes.unavailable;
  if (isHostFailure(error) && !isReply(error)) return exitCodes.infrastructure;
  process.stderr.write(`${error instanceof Error ? (error.stack ?? '') : ''}\n`);
  return exitCodes.internal;
}

/** Of Redis: it understood what we said, and we should not have said it. */
function isReply(error: unknown): boolean {
  return error instanceof Error && error.name === 'ReplyError';
}

function everyCommand(command: Command): Command[] {
  return [command, ...command.commands.flatMap(everyCommand)];
}
