/** The client against servers that misbehave in every way that was seen: each answer is taken, or is one typed error. */
import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import { CopyError, Session } from '../../../src/protocol/adt-virt/session.ts';
import { LineReader, maxLineBytes } from '../../../src/protocol/adt-virt/wire.ts';
import { TestbedError } from '../../../src/protocol/errors.ts';
import { GoldenRefusal, type Channel, type ServerExit } from '../../../src/protocol/testbed.ts';

/** Answers each command with the next of its replies (raw, newline included); undefined means that it ends with `exit`. */
function scripted(
  banner: string,
  replies: (string | undefined)[],
  exit: ServerExit = { kind: 'code', code: 0 },
): Channel {
  const toServer = new PassThrough();
  const fromServer = new PassThrough();
  let end: (exit: ServerExit) => void = () => {};
  const exited = new Promise<ServerExit>((resolve) => (end = resolve));
  const finish = (): void => {
    fromServer.end();
    end(exit);
  };
  const serve = async (): Promise<void> => {
    const lines = new LineReader(toServer);
    for (let next = await lines.next(); next !== undefined; next = await lines.next()) {
      if (next.line === 'quit') break;
      const reply = replies.shift();
      if (reply === undefined) break;
      fromServer.write(reply);
    }
    finish();
  };
  if (banner === '') finish();
  else {
    fromServer.write(banner);
    void serve();
  }
  return { toServer, fromServer, exited, terminate: finish };
}

const start = (channel: Channel): Promise<Session> => Session.start(channel, { backend: 'fake', grace: 1000 });

test.each([
  ['dies before its banner', ''],
  ['says hello', 'hello\n'],
  ['says more than ok', 'ok extra\n'],
])('a server that %s', async (_, banner) => {
  await expect(start(scripted(banner, []))).rejects.toBeInstanceOf(TestbedError);
});

const bad: [string, string | undefined, (session: Session) => Promise<unknown>, RegExp][] = [
  ['open: an error', 'failed to open\n', (s) => s.open(), /open: the server answered "failed to open"/],
  ['open: no path', 'ok\n', (s) => s.open(), /open/],
  ['open: two paths', 'ok /a /b\n', (s) => s.open(), /open/],
  ['open: an empty line', '\n', (s) => s.open(), /open/],
  ['open: it ends', undefined, (s) => s.open(), /open: the server ended with status 12/],
  ['open: a line without its end', 'ok /tm', (s) => s.open(), /open/],
  ['capabilities: an error', 'error\n', (s) => s.capabilities(), /capabilities/],
  ['print-execute-command: nothing', 'ok \n', (s) => s.executeCommand(), /print-execute-command/],
  ['copydown: more than ok', 'ok extra\n', (s) => s.copyDown('/a', '/b'), /copydown/],
  ['close: not ok', 'close-failed\n', (s) => s.close(), /close: the server answered "close-failed"/],
  ['shell: an error', 'no\n', (s) => s.shell('/'), /shell: the server answered "no"/],
  ['auxverb_debug_fail: it ends on it', undefined, (s) => s.auxverbDebugFail(), /ended with status 12/],
];
test.each(bad)('%s', async (_, reply, ask, message) => {
  const channel = scripted('ok\n', [reply], { kind: 'code', code: 12 });
  const session = await start(channel);
  const answer = ask(session);
  if (reply === 'ok /tm') channel.terminate();
  await expect(answer).rejects.toThrow(message);
  await expect(answer).rejects.toBeInstanceOf(TestbedError);
});

test('what stock servers do wrong is taken: stray ok, duplicates, unknown and encoded words, no words', async () => {
  const session = await start(scripted('ok\n', ['ok ok root-on-testbed ok x=1%202 root-on-testbed\n', 'ok\n']));
  expect(await session.capabilities()).toEqual(['root-on-testbed', 'x=1%202']);
  expect(await session.capabilities()).toEqual([]);
});

test('paths and arguments are decoded; keyword information and a path after reboot are ignored', async () => {
  const replies = ['ok /tmp/a%20b\n', 'ok /bin/x,a%2Cb,%25 keyword=1\n', 'ok /tmp/a%20b\n', 'ok\n'];
  const session = await start(scripted('ok\n', replies));
  expect(await session.open()).toBe('/tmp/a b');
  expect(await session.executeCommand()).toEqual(['/bin/x', 'a,b', '%']);
  await session.reboot();
  await session.reboot(true);
});

test.each(['timeout', 'copy-failed'] as const)('%s is recoverable', async (reply) => {
  const session = await start(scripted('ok\n', [`${reply}\n`, 'ok\n']));
  const failure = await session.copyUp('/a', '/b').catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(CopyError);
  expect(failure).toMatchObject({ reply });
  await session.copyUp('/a', '/b');
});

test.each(['golden-locked', 'golden-unavailable'])('%s leaves the session closed and usable', async (word) => {
  const session = await start(scripted('ok\n', [`${word}\n`, 'ok /s\n']));
  await expect(session.openGolden()).rejects.toBeInstanceOf(GoldenRefusal);
  expect(await session.open()).toBe('/s');
});

test('commands wait for each other', async () => {
  const session = await start(scripted('ok\n', ['ok /s\n', 'ok a\n', 'ok\n']));
  expect(await Promise.all([session.open(), session.capabilities(), session.close()])).toEqual([
    '/s',
    ['a'],
    undefined,
  ]);
});

test('quit: a status other than 0 is an error; one that stays is terminated', async () => {
  const failing = await start(scripted('ok\n', [], { kind: 'code', code: 7 }));
  await expect(failing.quit()).rejects.toThrow(/status 7 after quit/);
  const fine = await start(scripted('ok\n', []));
  await fine.quit();
});

test('a reply of 64 KiB and more is fine, a line without end is not', async () => {
  const long = 'x'.repeat(100_000);
  const session = await start(scripted('ok\n', [`ok /bin/${long}\n`, 'y'.repeat(maxLineBytes + 1)]));
  expect((await session.executeCommand())[0]).toHaveLength(long.length + 5);
  await expect(session.open()).rejects.toThrow(/more than 1048576 bytes/);
});
