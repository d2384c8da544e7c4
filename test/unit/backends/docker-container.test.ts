/** A container whose daemon, or whose own processes, do not do as they should. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import Docker from 'dockerode';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { startContainer, type ContainerPlan, type RunningContainer } from '../../../src/backends/docker/container.ts';
import { lastWords } from '../../../src/backends/docker/last-words.ts';
import { syscallNumbers, type SyscallNumbers } from '../../../src/exec/syscalls.ts';
import { say, startFakeDaemon, type Asked, type FakeDaemon } from './fixtures/fake-daemon.ts';

let daemon: FakeDaemon;
let removed: Signalled;
beforeEach(() => {
  removed = signalled();
});
afterEach(async () => {
  vi.useRealTimers();
  await daemon[Symbol.asyncDispose]();
});

type Answers = Partial<Record<'create' | 'start' | 'wait' | 'kill', (asked: Asked) => void>>;

async function started(answers: Answers, signal = new AbortController().signal): Promise<RunningContainer> {
  daemon = await startFakeDaemon((asked) => {
    const given = answers[path.basename(asked.what) as keyof Answers];
    if (asked.what.startsWith('DELETE')) removed.resolve();
    if (given !== undefined) return given(asked);
    say(asked.answer, asked.what.endsWith('/create') ? 201 : 204, { Id: 'one' });
  });
  const plan: ContainerPlan = { image: 'image', sessionId: 'one', folder: daemon.folder, init: false, kept: false };
  const numbers = syscallNumbers() as SyscallNumbers;
  return startContainer(new Docker({ socketPath: daemon.socket }), plan, numbers, signal);
}

interface Signalled {
  readonly promise: Promise<void>;
  resolve(): void;
}

function signalled(): Signalled {
  let resolve = (): void => {};
  const promise = new Promise<void>((settle) => (resolve = settle));
  return { promise, resolve: () => resolve() };
}

/** Its first process comes up when somebody waits for the container's end already. */
function up({ answer }: Asked): void {
  answer.writeHead(200).flushHeaders(); // as the daemon does
  connect(path.join(daemon.folder, 'agent/server.sock'))
    .on('error', () => {})
    .write('ready\n');
}

test('no end of a container is waited for while it runs: what it has put in our folder then is its own', async () => {
  let closed: Promise<unknown> | undefined;
  await started({
    wait(asked) {
      closed = once(asked.answer, 'close');
      up(asked);
    },
  });
  await closed;
});

test('a container that does not end is killed again, and given up', async () => {
  let kills = -1;
  const heard: (() => void)[] = [];
  const container = await started({
    wait: (asked) => (kills < 0 ? up(asked) : undefined),
    kill({ answer }) {
      kills += 1;
      say(answer, 500, { message: 'cannot kill container' });
      heard.shift()?.();
    },
  });
  kills = 0;
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] });
  const stopped = container.stop();
  const settled = stopped.catch((error: unknown) => error);
  for (const _ of [1, 2]) {
    const killed = new Promise<void>((resolve) => heard.push(resolve));
    await vi.advanceTimersByTimeAsync(10_000);
    await killed;
  }
  await vi.advanceTimersByTimeAsync(40_000);
  expect([String(await settled), kills >= 2]).toEqual(['TestbedError: the container does not end', true]);
});

test('one that has ended at once is told with its last words, of which no more is read than a line takes', async () => {
  const failing = started({
    start({ answer }) {
      const file = path.join(daemon.folder, 'agent/last-words');
      writeFileSync(file, 'no user\nnamespaces ');
      truncateSync(file, 1_900_000_000);
      say(answer, 204, {});
    },
    wait: ({ answer }) => say(answer, 200, { StatusCode: 3 }),
  });
  await expect(failing).rejects.toThrow('the container ended at once with status 3 (no user namespaces)');
  const at = (name: string): string => path.join(daemon.folder, name);
  writeFileSync(at('empty'), '');
  writeFileSync(at('long'), 'x'.repeat(1000));
  symlinkSync(at('long'), at('link'));
  execFileSync('/usr/bin/mkfifo', [at('fifo')]);
  expect(['empty', 'link', 'fifo', 'long'].map((name) => lastWords(at(name))?.length)).toEqual([
    undefined,
    undefined,
    undefined,
    200,
  ]);
});

test.each(['create', 'start'] as const)(
  'whoever is told to stop does not wait for its %s; a late container goes',
  async (step) => {
    const stop = new AbortController();
    let hanging: Asked | undefined;
    const asked = signalled();
    const hang = (request: Asked): void => {
      hanging = request;
      asked.resolve();
    };
    const starting = started({ [step]: hang }, stop.signal);
    const refused = starting.catch(String);
    await asked.promise;
    stop.abort(new Error('enough'));
    if (step === 'start') await removed.promise;
    expect(await refused).toBe('Error: enough');
    if (hanging !== undefined) say(hanging.answer, 201, { Id: 'one' });
    await removed.promise;
  },
);
