/** The `shell` verb: an interactive shell in the testbed, on the terminal that this process has, if any. */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import type { ServerOptions } from '../../protocol/adt-virt/served-testbed.ts';

/** A fixed script: directory and variables are its arguments. */
const script =
  'cd -- "$1" || exit; shift; if [ -x /bin/bash ]; then exec /usr/bin/env "$@" /bin/bash -i; fi; exec /usr/bin/env "$@" /bin/sh -i';

/** Milliseconds for a shell to heed that its terminal is gone. */
const grace = 5_000;

/** @param signal ends a shell that is running, so that the server can clean up */
export function terminalShell(log: (line: string) => void, signal: AbortSignal): NonNullable<ServerOptions['shell']> {
  return async (testbed, directory, environment) => {
    let terminal: number;
    try {
      terminal = openSync('/dev/tty', 'r+');
    } catch {
      log('goldbed-virt: no terminal to run a shell on');
      return;
    }
    const variables = [`TERM=${process.env['TERM'] ?? 'linux'}`, ...environment];
    const [program, ...args] = [...testbed.auxverb, '/bin/sh', '-c', script, 'sh', directory, ...variables] as const;
    const child = spawn(program, args, { stdio: [terminal, terminal, terminal] });
    let timer: NodeJS.Timeout | undefined;
    const hangUp = (): void => {
      child.kill('SIGHUP');
      timer = setTimeout(() => child.kill('SIGKILL'), grace);
    };
    signal.addEventListener('abort', hangUp, { once: true });
    await new Promise((resolve) => child.once('close', resolve).once('error', resolve));
    signal.removeEventListener('abort', hangUp);
    clearTimeout(timer);
    closeSync(terminal);
  };
}
