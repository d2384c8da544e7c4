/** The client against servers that are real processes and do not behave: what it tells of them, and that none survives. */
import { existsSync } from 'node:fs';
import { expect, test } from 'vitest';
import { startChildServer } from '../../../src/protocol/adt-virt/child-server.ts';
import { Session, Unsupported } from '../../../src/protocol/adt-virt/session.ts';
import { TestbedError } from '../../../src/protocol/errors.ts';
import type { Channel } from '../../../src/protocol/testbed.ts';

const server = (script: string): Promise<Channel> => startChildServer(['/bin/sh', '-c', script], { log: () => {} });
const start = async (script: string, grace = 10_000): Promise<Session> =>
  Session.start(await server(script), { backend: 'fake', grace });

/** It stays whatever is asked of it, with a child that holds its streams; its process ids come as the scratch directory. */
const stubborn = `trap '' TERM HUP INT; sleep 600 & echo ok; read open; echo "ok /$$/$!"; while :; do wait; sleep 600; done`;

const gone = (ids: readonly string[]): boolean => ids.every((id) => !existsSync(`/proc/${id}`));

test('dies before its banner: its exit status, and the end of what it said', async () => {
  const died = start('echo first >&2; echo "no such image" >&2; exit 3');
  await expect(died).rejects.toBeInstanceOf(TestbedError);
  await expect(died).rejects.toThrow('the server ended with status 3 instead of answering: first; no such image');
});

test('another banner: it is killed before that is told, though it ignores SIGTERM', async () => {
  const channel = await server(`trap '' TERM; echo "hello"; while :; do sleep 600; done`);
  await expect(Session.start(channel, { backend: 'fake', grace: 50 })).rejects.toThrow('answered "hello"');
  expect(await channel.exited).toEqual({ kind: 'signal', signal: 'SIGKILL' });
});

test('answers quit: that is fine', async () => {
  const session = await start('echo ok; read quit; echo ok; exit 0');
  await session.quit();
});

test('stays after quit, the end of its input and SIGTERM: it is dead, and its children, when quit has told so', async () => {
  const session = await start(stubborn, 50);
  const ids = (await session.open()).split('/').slice(1);
  expect([ids.length, gone(ids)]).toEqual([2, false]);
  await expect(session.quit()).rejects.toThrow('the server ended with SIGKILL after quit');
  expect(existsSync(`/proc/${ids[0]}`)).toBe(false);
  // init reaps the child
  while (!gone(ids)) await new Promise((resolve) => setImmediate(resolve));
});

test('stays until its input ends, or until SIGTERM: that is enough', async () => {
  const patient = await start('echo ok; while read line; do :; done; exit 0', 300);
  await expect(patient.quit()).resolves.toBeUndefined();
  const deaf = await start('exec 3<&0; echo ok; exec sleep 600', 100);
  await expect(deaf.quit()).rejects.toThrow('the server ended with SIGTERM after quit');
});

test('shell: the words as they are, the end when it answers; one that has none says so, and goes on', async () => {
  const session = await start(
    'echo ok; read line; echo ok; echo "$line" >&2; read line; echo not supported by virt server; read line; echo ok; read line',
  );
  await session.shell('/tmp/a b', 'A=b c');
  const unsupported = await session.shell('/').catch((error: unknown) => error);
  expect(unsupported).toBeInstanceOf(Unsupported);
  expect(unsupported).toMatchObject({ step: 'run', message: 'shell: not supported by virt server' });
  await session.auxverbDebugFail();
  await session.quit();
});
