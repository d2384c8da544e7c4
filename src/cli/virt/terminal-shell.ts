/** The `shell` verb: an interactive shell in the testbed, on the terminal that this process has, if any. */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import type { Testbed } from '../../protocol/testbed.ts';

export async function terminalShell(
  testbed: Testbed,
  directory: string,
  environment: readonly string[],
  log: (line: string) => void,
): Promise<void> {
  let terminal: number;
  try {
    terminal = openSync('/dev/tty', 'r+');
  } catch {
    log('goldbed-virt: no terminal to run a shell on');
    return;
  }
  const term = process.env['TERM'] ?? 'linux';
  // a fixed script; directory and variables are its arguments
  const script =
    'cd -- "$1" || exit; shift; if [ -x /bin/bash ]; then exec /usr/bin/env "$@" /bin/bash -i; fi; exec /usr/bin/env "$@" /bin/sh -i';
  const [program, ...args] = [
    ...testbed.auxverb,
    '/bin/sh',
    '-c',
    script,
    'sh',
    directory,
    `TERM=${term}`,
    ...environment,
  ] as const;
  const child = spawn(program, args, { stdio: [terminal, terminal, terminal] });
  await new Promise((resolve) => child.once('close', resolve).once('error', resolve));
  closeSync(terminal);
}
