/**
 * `goldbed-virt external NAME`: the external server of that name in the configuration, as if the client had started it: the
 * standard streams, and the terminal for its `shell`, are the client's own.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { externalProgram, externalUnavailable } from '../../backends/external.ts';
import { loadSettings } from '../../config/load.ts';
import { UsageError } from '../../protocol/errors.ts';

export const externalUsage = 'external NAME';

/** For --help. @throws {ConfigError} */
export function externalHelp(env: NodeJS.ProcessEnv): string[] {
  const { external } = loadSettings(env, process.getuid?.() ?? 0);
  const names = Object.entries(external).map(
    ([name, { server }]) => `        ${name}: ${server.join(' ')} (${externalUnavailable(server) ?? 'available'})`,
  );
  const none = names.length === 0 ? ' (none is configured)' : '';
  return [
    `  goldbed-virt ${externalUsage}`,
    `      any other adt-virt server, by its name in the configuration${none}`,
    ...names,
  ];
}

/** @returns how it ended @throws {ConfigError|UsageError|TestbedError} when it cannot be started */
export async function runExternal(
  name: string,
  env: NodeJS.ProcessEnv,
): Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }> {
  const { external } = loadSettings(env, process.getuid?.() ?? 0);
  const image = Object.hasOwn(external, name) ? external[name] : undefined;
  if (image === undefined) {
    const known = Object.keys(external).join(', ') || 'none';
    throw new UsageError(name, `no external server ${name} in the configuration (it has: ${known})`);
  }
  const { argv, env: environment } = externalProgram(image.server, env);
  const [program = '', ...args] = argv;
  const child = spawn(program, args, { env: { ...environment }, stdio: 'inherit' });
  // a terminal sends its own signals to the server as well, and a second one would disturb its clean-up
  const passed = hasTerminal() ? (['SIGTERM'] as const) : (['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT'] as const);
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT'] as const)
    process.on(signal, () => passed.some((one) => one === signal) && child.kill(signal));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => resolve({ code, signal }));
  });
}

function hasTerminal(): boolean {
  try {
    closeSync(openSync('/dev/tty', 'r'));
    return true;
  } catch {
    return false;
  }
}
