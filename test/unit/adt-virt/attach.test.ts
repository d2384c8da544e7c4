/** A session behind a socket, and the program that clients start to reach it. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { nullSource } from '../../../src/backends/null.ts';
import { packageFile } from '../../../src/exec/package-file.ts';
import { listen } from '../../../src/protocol/adt-virt/attach.ts';
import { startInProcess } from '../../../src/protocol/adt-virt/pair.ts';

let folder: string;
let socket: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'goldbed-attach-'));
  socket = path.join(folder, 'session.sock');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** As sbuild starts it: without an environment. */
const attach = (to: string): ChildProcess =>
  spawn(packageFile('bin/goldbed-virt'), ['attach', to], { env: {}, stdio: ['pipe', 'pipe', 'pipe'] });

async function ended(relay: ChildProcess): Promise<readonly [number | null, string, string]> {
  const closed = once(relay, 'close');
  const said = await Promise.all([relay.stdout, relay.stderr].map((stream) => text(stream as NodeJS.ReadableStream)));
  const [code] = (await closed) as [number | null];
  return [code, said[0] ?? '', said[1] ?? ''];
}

async function session(): Promise<{ heard: string[] } & AsyncDisposable> {
  const log = (): void => {};
  const source = nullSource(process.getuid?.() ?? 0);
  const channel = startInProcess(source, { copyTimeout: 0, log, signal: new AbortController().signal });
  const heard: string[] = [];
  const listener = await listen(socket, channel, { onCommand: (line) => heard.push(line), onReply: () => {} });
  return { heard, [Symbol.asyncDispose]: () => listener[Symbol.asyncDispose]() };
}

test('a conversation, its status, and the end while the input is still open', async () => {
  await using served = await session();
  const relay = attach(socket);
  relay.stdin?.write('capabilities\nopen\nclose\nquit\n');
  const [code, said, complaints] = await ended(relay);
  expect([code, complaints]).toEqual([0, '']);
  expect(said).toMatch(/^ok\nok .*\nok \/\S+\nok\n$/);
  expect(served.heard).toEqual(['capabilities', 'open', 'close', 'quit']);
});

test('what the server ends with is what it ends with; the end of its input ends the session', async () => {
  {
    await using _ = await session();
    const relay = attach(socket);
    relay.stdin?.write('frobnicate\n');
    expect((await ended(relay)).slice(0, 2)).toEqual([12, 'ok\n']);
  }
  await using _ = await session();
  const relay = attach(socket);
  relay.stdin?.end('open\n');
  const [, said, complaints] = await ended(relay);
  expect([said, complaints]).toEqual([expect.stringMatching(/^ok\nok \/\S+\n$/), '']);
});

test('long lines, in many pieces, and a reader that has left', async () => {
  const words = `ok ${'x'.repeat(3_000_000)}\n`;
  const server = createServer((client) => {
    client.on('error', () => {});
    client.once('data', () => {
      for (let at = 0; at < words.length; at += 100_001) client.write(words.slice(at, at + 100_001));
      client.end('\0exit 7\n');
    });
  }).listen(socket);
  await once(server, 'listening');
  const relay = attach(socket);
  relay.stdin?.write('x\n');
  const [code, said] = await ended(relay);
  expect([code, said === words]).toEqual([7, true]);
  const deaf = attach(socket);
  deaf.stdout?.destroy();
  deaf.stdin?.write('x\n');
  expect(await once(deaf, 'exit')).toEqual([7, null]);
  server.close();
});

test('a session that goes away, and one that is not there, are the end of the testbed', async () => {
  const server = createServer((client) => client.end('ok\n')).listen(socket);
  await once(server, 'listening');
  const gone = await ended(attach(socket));
  expect(gone).toEqual([16, 'ok\n', `goldbed-virt: the session behind ${socket} went away\n`]);
  server.close();
  const missing = path.join(folder, 'missing');
  expect(await ended(attach(missing))).toEqual([
    16,
    '',
    `goldbed-virt: cannot reach ${missing}: No such file or directory\n`,
  ]);
  const long = path.join(folder, 'x'.repeat(200));
  expect((await ended(attach(long))).slice(0, 2)).toEqual([16, '']);
});
