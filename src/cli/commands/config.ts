/** `goldbed config`: the settings that count here, and where they come from. */
import { Command } from 'commander';
import { settingsWithOrigins, type OriginatedSetting } from '../../config/origins.ts';
import { redact } from '../../redis/connect.ts';
import { makeContext, type GlobalFlags } from '../context.ts';
import { json, out, table } from '../print.ts';

type Flags = GlobalFlags & { readonly showOrigin?: boolean; readonly json?: boolean };

const flagsOf: Readonly<Record<string, keyof GlobalFlags>> = {
  state: 'state',
  'redis.url': 'redisUrl',
  'redis.allowUnsafe': 'allowUnsafeRedis',
};

export function configCommand(): Command {
  return new Command('config')
    .description('print the settings that count on this host')
    .option('--show-origin', 'and where each comes from: a file, a variable, a flag or the default')
    .option('--json', 'print one JSON document, with the origins')
    .action((_: unknown, command: Command) => {
      const flags = command.optsWithGlobals<Flags>();
      const { settings } = makeContext(flags);
      const all = settingsWithOrigins(settings, process.env).map((one) => shown(one, flags));
      if (flags.json === true) return json({ settings: all });
      const rows = all.map(({ key, value, origin }) => [
        key,
        typeof value === 'string' ? value : JSON.stringify(value),
        ...(flags.showOrigin === true ? [origin] : []),
      ]);
      out(table([['KEY', 'VALUE', ...(flags.showOrigin === true ? ['ORIGIN'] : [])], ...rows]));
    });
}

function shown({ key, value, origin }: OriginatedSetting, flags: Flags): OriginatedSetting {
  const flag = flagsOf[key];
  const said = flag !== undefined && flags[flag] !== undefined;
  return {
    key,
    value: key === 'redis.url' && typeof value === 'string' ? redact(value) : value,
    origin: said ? `--${flag.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}` : origin,
  };
}
