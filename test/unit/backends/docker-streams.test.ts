/** What a command in a docker testbed gets of the host's streams: the two programs themselves, without a container. */
import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { once } from 'node:events';
import { constants, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { packageFile } from '../../../src/exec/package-file.ts';
import { syscallNumbers } from '../../../src/exec/syscalls.ts';

const O_PATH = 0o10000000;
const numbers = syscallNumbers();
const folder = mkdtempSync(path.join(tmpdir(), 'goldbed-streams-'));
const file = (name: string): string => path.join(folder, name);
let server: Server;
let agent: ChildProcess;
let link: Socket;

beforeAll(async () => {
  server = createServer().listen(file('server.sock'));
  await once(server, 'listening');
  const program = ['normal-user', 'docker-agent'].map((name) => readFileSync(packageFile(`libexec/${name}`), 'utf8'));
  // perl may look at a signal too late: here it never hears that a command has ended
  const deaf = 'use POSIX; sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGCHLD)); exec @ARGV';
  const words = ['/usr/bin/perl', '-f', '-e', program.join('\n'), String(numbers?.recvmsg), folder, ''];
  agent = spawn('/usr/bin/perl', ['-e', deaf, ...words], { stdio: ['ignore', 'ignore', 'inherit'] });
  [link] = (await once(server, 'connection')) as [Socket];
  expect(String((await once(link, 'data'))[0])).toBe('ready\n');
});
afterAll(async () => {
  const ended = once(agent, 'exit');
  link.destroy();
  await ended;
  server.close();
  rmSync(folder, { recursive: true });
});

function start(script: string, stdio: StdioOptions): ChildProcess {
  const words = [numbers?.sendmsg, numbers?.openat, O_PATH | constants.O_NOFOLLOW, file('run.sock'), '--'].map(String);
  return spawn('/usr/bin/perl', ['-f', packageFile('libexec/docker-enter'), ...words, '/bin/sh', '-c', script], {
    stdio,
  });
}
async function status(child: ChildProcess): Promise<unknown> {
  const [code] = (await once(child, 'close')) as [number | null];
  return code;
}
const toWrite = (name: string): number => openSync(file(name), 'w');
const toRead = (name: string): number => openSync(file(name), 'r');
const said = (name: string): string => readFileSync(file(name), 'utf8');

test('a file of the host is a pipe to the command: it cannot open it for writing', async () => {
  writeFileSync(file('script'), 'unharmed');
  const spoil = 'echo changed >/proc/self/fd/0; readlink /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2';
  const child = start(spoil, [toRead('script'), toWrite('out'), toWrite('err')]);
  expect([await status(child), said('script')]).toEqual([0, 'unharmed']);
  expect(said('out')).toMatch(/^(?:pipe:\[\d+\]\n){3}$/);
});

test('pipes go in as they are', async () => {
  const child = start('readlink /proc/self/fd/0 /proc/self/fd/1', ['pipe', 'pipe', 'ignore']);
  child.stdin?.end();
  const [code, out] = await Promise.all([status(child), text(child.stdout as NodeJS.ReadableStream)]);
  expect([code, out]).toEqual([0, expect.stringMatching(/^(?:socket:\[\d+\]\n){2}$/)]);
});

test('/dev/null is opened in there', async () => {
  const look = 'exec 5>&1 >&2; for fd in 0 5; do readlink /proc/$$/fd/$fd; cat /proc/$$/fdinfo/$fd; done';
  const child = start(look, ['ignore', 'ignore', 'pipe']); // Node's own are open for reading, and for writing
  const [code, seen] = await Promise.all([status(child), text(child.stderr as NodeJS.ReadableStream)]);
  expect([code, seen.match(/^\/dev\/null$/gm)]).toEqual([0, ['/dev/null', '/dev/null']]);
  expect(seen.match(/^flags:\s*\d*2$/gm)).toHaveLength(2); // the agent's are for both
});

test('big files pass whole; what is said on both streams stays in order', async () => {
  const big = Buffer.alloc(5_000_000, 'goldbed');
  writeFileSync(file('big'), big);
  expect(await status(start('cat', [toRead('big'), toWrite('copy'), 'inherit']))).toBe(0);
  expect(readFileSync(file('copy')).equals(big)).toBe(true);
  const out = toWrite('both');
  const child = start('for n in 1 2 3; do echo out $n; echo err $n >&2; done; exit 3', ['ignore', out, out]);
  expect([await status(child), said('both')]).toEqual([3, 'out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n']);
});

test('a command that reads no further than it wants to ends as it likes', async () => {
  // what it says meanwhile passes while its input finds nobody
  const close = start('exec <&-; head -c 3000000 /dev/zero; exit 7', [toRead('big'), toWrite('out'), 'inherit']);
  expect([await status(close), statSync(file('out')).size]).toEqual([7, 3_000_000]);
  const head = start('head -c 5; exit 7', [toRead('big'), toWrite('head'), 'inherit']);
  expect([await status(head), said('head')]).toEqual([7, 'goldb']);
});

test('a child that stays does not keep it; what the command has said before its end is there', async () => {
  const child = start('sleep 1000 & echo $!; head -c 200000 /dev/zero', ['ignore', toWrite('stays'), 'inherit']);
  expect([await status(child), statSync(file('stays')).size > 200_000]).toEqual([0, true]);
  process.kill(Number(said('stays').split('\n')[0]), 'SIGKILL');
});

test('what could not be read or written is no success', async () => {
  const lines: string[] = [];
  for (const [script, stdio] of [
    ['echo lost', ['ignore', openSync('/dev/full', 'w'), 'pipe']],
    ['cat', [openSync(folder, 'r'), 'ignore', 'pipe']],
  ] as const) {
    const child = start(script, [...stdio]);
    const [code, complaint] = await Promise.all([status(child), text(child.stderr as NodeJS.ReadableStream)]);
    lines.push(`${String(code)} ${complaint}`);
  }
  expect(lines).toEqual(['1 docker-enter: write: No space left on device\n', '1 docker-enter: read: Is a directory\n']);
});

test('only goldbed gets at the socket', () => {
  const { mode, uid } = statSync(file('run.sock'));
  expect([(mode & 0o777).toString(8), uid]).toEqual(['600', process.getuid?.()]);
});
