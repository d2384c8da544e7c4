/** A client that is to stop: how long it may take, and what becomes of one that does not. The clock is the test's. */
import { createWriteStream, type WriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { identityOf, isAlive, type ProcessIdentity } from '../../../src/exec/process-identity.ts';
import { cleanEnvironment } from '../../../src/exec/run.ts';
import { runClient } from '../../../src/worker/client-program.ts';
import { StepClock } from '../../../src/worker/stages.ts';

let folder: string;
let log: WriteStream;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'goldbed-client-'));
  log = createWriteStream(path.join(folder, 'log'));
});
afterEach(async () => {
  vi.useRealTimers();
  await new Promise((resolve) => log.end(resolve));
  await rm(folder, { recursive: true, force: true });
});

/** Runs it, and waits until it has said its process number. */
async function start(program: string, signal: AbortSignal) {
  const argv = ['/usr/bin/perl', '-e', program];
  const clock = new StepClock();
  let ending = Promise.resolve(0);
  const pid = await new Promise<number>((said) => {
    const onLine = (line: string): void => said(Number(line));
    ending = runClient(
      { argv, cwd: folder, env: cleanEnvironment, log, clock, stageOf: () => undefined, onLine },
      signal,
    );
    ending.catch(() => {}); // it is looked at later
  });
  return { ending, client: identityOf(pid) as ProcessIdentity };
}

test('one that ignores SIGTERM is killed after 7 s: what it held is promised to be free after 10', async () => {
  const stop = new AbortController();
  const deaf = '$| = 1; $SIG{TERM} = "IGNORE"; print "$$\\n"; sleep 1000 while 1';
  const { ending, client } = await start(deaf, stop.signal);
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  stop.abort(new Error('enough'));
  vi.advanceTimersByTime(6_999);
  expect(isAlive(client)).toBe(true);
  vi.advanceTimersByTime(1);
  await expect(ending).rejects.toThrow('enough');
  while (isAlive(client)) await new Promise(setImmediate); // the kernel takes a moment, whoever waits for it
});

test('one that obeys has the time to clean up', async () => {
  const stop = new AbortController();
  const cleanUp = `sub { open my $f, '>', 'cleaned'; close $f; exit 3 }`;
  const obedient = `$| = 1; $SIG{TERM} = ${cleanUp}; print "$$\\n"; sleep 1000 while 1`;
  const { ending } = await start(obedient, stop.signal);
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }); // nobody is killed while that stands still
  stop.abort(new Error('enough'));
  await expect(ending).rejects.toThrow('enough');
  await rm(path.join(folder, 'cleaned'));
});
