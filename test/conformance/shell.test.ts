/** The verb `shell` on a real terminal: a shell that a person can use, and ^C in it, which ends neither it nor the server. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { goldbedWithImage, smallImage, virtProgram } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'goldbed-shell-'));
  execFileSync('/usr/bin/mkfifo', [path.join(folder, 'in'), path.join(folder, 'out')]);
});
afterEach(() => rm(folder, { recursive: true }));

/** script(1) gives the server a terminal; what the protocol says goes through two FIFOs. */
function onTerminal(words: string, env: Readonly<Record<string, string>>) {
  const at = (name: string): string => path.join(folder, name);
  const command = `exec ${virtProgram} ${words} <'${at('in')}' >'${at('out')}'`;
  const terminal = spawn('/usr/bin/script', ['--quiet', '--flush', '--return', '--command', command, '/dev/null'], {
    env: { PATH: '/usr/bin:/bin', GOLDBED_NODE: process.execPath, ...env },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  onTestFinished(() => void terminal.kill('SIGHUP')); // one that hangs
  const toServer = createWriteStream(at('in'));
  const replies = createInterface({ input: createReadStream(at('out')) })[Symbol.asyncIterator]();
  let screen = '';
  const lookers = new Set<() => void>();
  terminal.stdout.on('data', (chunk: Buffer) => {
    screen += chunk.toString();
    for (const look of lookers) look();
  });
  return {
    send: (line: string): boolean => toServer.write(`${line}\n`),
    reply: async (): Promise<unknown> => (await replies.next()).value,
    type: (keys: string): boolean => terminal.stdin.write(keys),
    /** Waits until the terminal shows it; the test's own time limit bounds the wait. */
    shows: (pattern: RegExp): Promise<void> =>
      new Promise((resolve) => {
        const look = (): void => {
          if (!pattern.test(screen)) return;
          lookers.delete(look);
          resolve();
        };
        lookers.add(look);
        look();
      }),
    ended: once(terminal, 'exit'),
  };
}

async function useShell(words: string, env: Readonly<Record<string, string>>): Promise<void> {
  const session = onTerminal(words, env);
  expect(await session.reply()).toBe('ok');
  session.send('open');
  expect(await session.reply()).toMatch(/^ok \/tmp\//);
  session.send('shell /usr/bin GREETING=hello%20there');
  session.type('echo "[$PWD] [$GREETING] [$(tty)] $((40 + 2))"\n');
  await session.shows(/\[\/usr\/bin\] \[hello there\] \[.*\] 42\r/);
  session.type(`sh -c 'echo begun $((6 * 7)); exec sleep 600'\n`);
  await session.shows(/begun 42\r/);
  session.type('\u0003');
  await session.shows(/\^C[^]*[#$] $/); // the terminal forgets what was typed before it
  session.type('echo interrupted $((7 * 7))\n');
  await session.shows(/interrupted 49\r/);
  session.type('exit\n');
  expect(await session.reply()).toBe('ok');
  session.send('capabilities');
  expect(await session.reply()).toMatch(/^ok/);
  session.send('quit');
  expect(await session.ended).toEqual([0, null]);
}

describe('a shell on a terminal', () => {
  test('null', () => useShell('null', {}));
});

const unavailable = await overlayBackend(stateAt('/nonexistent')).unavailable();
describeWith('overlay', unavailable, 'a shell on a terminal, in a testbed', () => {
  test('overlay', async () => {
    const { state } = await goldbedWithImage(smallImage);
    await useShell(`overlay ${smallImage.name}`, { GOLDBED_STATE: state });
  });
});
