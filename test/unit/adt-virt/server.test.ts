/** What the table of vectors cannot say: failures inside a testbed, signals in the middle of a verb, readers that leave. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import path from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import { setImmediate as immediate } from 'node:timers/promises';
import { afterEach, expect, test, vi } from 'vitest';
import { nullSource } from '../../../src/backends/null.ts';
import { killGroup, start } from '../../../src/exec/run.ts';
import { startInProcess } from '../../../src/protocol/adt-virt/pair.ts';
import { ReaderGone, serve } from '../../../src/protocol/adt-virt/server.ts';
import type { Testbed, TestbedSource, Trait } from '../../../src/protocol/testbed.ts';
import { Asking } from './fixtures/asking.ts';

const host = nullSource(process.getuid?.() ?? 0);
const never = new AbortController().signal;

afterEach(() => {
  vi.restoreAllMocks();
});

/** The host, with some of its parts replaced, and how many of its testbeds are open. */
function hostWith(
  parts: Partial<Testbed>,
  more: Partial<TestbedSource> = {},
): { source: TestbedSource; open: () => number } {
  let open = 0;
  const source = {
    ...host,
    async open(signal: AbortSignal): Promise<Testbed> {
      const testbed = await host.open(signal);
      open++;
      return { ...testbed, [Symbol.asyncDispose]: async () => void open--, ...parts };
    },
    ...more,
  };
  return { source, open: () => open };
}

function served(source: TestbedSource, said: string[] = []): Asking {
  return new Asking(startInProcess(source, { copyTimeout: 0, log: (line) => void said.push(line), signal: never }));
}

test('a hook that throws: no reply, what it said, closed, 16', async () => {
  const said: string[] = [];
  const revert = (): Promise<void> => Promise.reject(new Error('no such snapshot'));
  const { source, open } = hostWith({ revert, traits: ['revert-full-system'] }, { revert: true });
  const wire = served(source, said);
  const scratch = (await wire.ask('open')).slice(3);
  expect(await wire.ask('revert')).toBe('(end)');
  expect(await wire.exit()).toBe(16);
  expect(said).toEqual(['goldbed-virt: unexpected error: no such snapshot']);
  expect(open()).toBe(0);
  execFileSync('/bin/rmdir', [scratch]);
});

test('a testbed that cannot be closed: no reply, 12, and it is not tried again', async () => {
  const said: string[] = [];
  let tries = 0;
  const dispose = async (): Promise<void> => {
    tries++;
    throw new Error('target is busy');
  };
  const wire = served(hostWith({ [Symbol.asyncDispose]: dispose }).source, said);
  await wire.ask('open');
  expect(await wire.ask('close')).toBe('(end)');
  expect([await wire.exit(), tries]).toEqual([12, 1]);
  expect(said).toEqual(['goldbed-virt: failure: close: target is busy']);
});

/** A session whose changes stay, on the host; every command hangs once the file is there. */
async function hanging(more: Partial<Testbed> = {}): Promise<{ wire: Asking; open: () => number; said: string[] }> {
  const folder = await mkdtemp(path.join(tmpdir(), 'goldbed-server-'));
  const hung = path.join(folder, 'hung');
  const auxverb = ['/bin/sh', '-c', 'test ! -e "$0" || exec sleep 1000; exec "$@"', hung] as const;
  const said: string[] = [];
  const { source, open } = hostWith({ auxverb, ...more });
  const wire = served(source, said);
  const scratch = (await wire.ask('open')).slice(3);
  await writeFile(hung, '');
  void wire.channel.exited.then(() => [folder, scratch].map((left) => rm(left, { recursive: true })));
  return { wire, open, said };
}

test('a testbed that hangs at the end is closed all the same', async () => {
  const { wire, open, said } = await hanging();
  const limits = vi.spyOn(AbortSignal, 'timeout').mockReturnValue(AbortSignal.timeout(100));
  expect(await wire.ask('close')).toBe('(end)');
  expect([await wire.exit(), open()]).toEqual([12, 0]);
  expect(limits).toHaveBeenCalledWith(60_000);
  expect(said).toEqual(['goldbed-virt: failure: close: /bin/rm has not ended within 60 s']);
});

test('nothing is asked of a testbed that nobody has closed in order, where its changes are thrown away then', async () => {
  let released = 0;
  const { wire, open, said } = await hanging({ release: async () => void released++ });
  expect(await wire.quit()).toBe(0);
  expect([open(), released, said]).toEqual([0, 0, []]);
});

test('a testbed in which no scratch directory can be made is closed again', async () => {
  const { source, open } = hostWith({ auxverb: ['/bin/false'] });
  const wire = served(source);
  expect(await wire.ask('open')).toBe('(end)');
  expect(await wire.exit()).toBe(16);
  expect(open()).toBe(0);
});

test('an unknown verb is quoted in part, a line of 1 MiB and more is an error of the protocol', async () => {
  for (const length of [10_000, 1024 * 1024 + 1]) {
    const said: string[] = [];
    const wire = served(host, said);
    expect(await wire.ask('x'.repeat(length))).toBe('(end)');
    expect(await wire.exit()).toBe(12);
    expect(said.join().length).toBeLessThan(300);
  }
});

test('the execute command is read again after a revert', async () => {
  let reverts = 0;
  const testbed: Testbed = {
    traits: ['revert-full-system'],
    get auxverb() {
      return ['/usr/bin/env', `REVERTS=${reverts}`] as const;
    },
    async revert() {
      execFileSync('/bin/rmdir', [scratch]);
      reverts++;
    },
    [Symbol.asyncDispose]: async () => {},
  };
  const wire = served({ ...host, revert: true, open: async () => testbed });
  const opened = await wire.ask('open');
  const scratch = opened.slice(3);
  expect(await wire.ask('print-execute-command')).toBe('ok /usr/bin/env,REVERTS%3D0');
  expect(await wire.ask('revert')).toBe(opened);
  expect(await wire.ask('print-execute-command')).toBe('ok /usr/bin/env,REVERTS%3D1');
  expect(await wire.quit()).toBe(0);
  execFileSync('/bin/rmdir', [scratch]);
});

test('traits of the open testbed are announced while it is open', async () => {
  const user = `suggested-normal-user=${userInfo().username}` as const;
  const wire = served(hostWith({ traits: [user, user] }, { traits: [] }).source);
  expect(await wire.ask('capabilities')).toBe('ok');
  const scratch = (await wire.ask('open')).slice(3);
  expect(await wire.ask('capabilities')).toBe(`ok ${user} downtmp-host=${scratch}`);
  expect(await wire.ask('close')).toBe('ok');
  expect(await wire.ask('capabilities')).toBe('ok');
  expect(await wire.quit()).toBe(0);
});

test.each<[string, readonly Trait[], string]>([
  ['nobody else', [], `755 ${userInfo().username}`],
  ['the user that tests run as', [`suggested-normal-user=${userInfo().username}`], `755 ${userInfo().username}`],
  ['all, where there is nobody else', ['isolation-container'], `777 ${userInfo().username}`],
])('the scratch directory is for %s', async (_, traits, expected) => {
  const wire = served(hostWith({ traits }).source);
  const scratch = (await wire.ask('open')).slice(3);
  expect(execFileSync('/usr/bin/stat', ['-c', '%a %U', scratch], { encoding: 'utf8' })).toBe(`${expected}\n`);
  expect(await wire.quit()).toBe(0);
});

test('what a revert leaves of /tmp does not hold the scratch directory up; at the end it is gone', async () => {
  const revert = async (): Promise<void> => {}; // as a session of schroot with the host's /tmp
  const wire = served(hostWith({ revert }, { revert: true }).source);
  const opened = await wire.ask('open');
  expect(await wire.ask('revert')).toBe(opened);
  expect(await wire.ask('close')).toBe('ok');
  expect(existsSync(opened.slice(3))).toBe(false);
  expect(await wire.ask('open')).toBe(opened);
  expect(await wire.quit()).toBe(0);
  expect(existsSync(opened.slice(3))).toBe(false);
});

test('copies between identical paths are left alone where the client writes by itself', async () => {
  const wire = served(host);
  const scratch = (await wire.ask('open')).slice(3);
  expect(await wire.ask(`copyup ${scratch}//none ${scratch}/none`)).toBe('ok');
  expect(await wire.ask(`copyup ${scratch}/none ${scratch}X/none`)).toBe('copy-failed'); // not a prefix of the name
  expect(await wire.quit()).toBe(0);
});

test('a signal in the middle of a copy: its processes end, the testbed is closed, the reason is thrown', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'goldbed-server-'));
  const fifo = path.join(folder, 'fifo');
  execFileSync('/usr/bin/mkfifo', [fifo]);
  const stop = new AbortController();
  const { source, open } = hostWith({});
  const [input, output] = [new PassThrough(), new PassThrough()];
  const io = { input, output, log: () => {} };
  const end = serve(io, source, { copyTimeout: 0, signal: stop.signal });
  const wire = new Asking({ toServer: input, fromServer: output, exited: new Promise(() => {}), terminate: () => {} });
  const scratch = (await wire.ask('open')).slice(3);
  input.write(`copyup ${fifo} ${folder}/up\n`);
  // a writer's open of a FIFO waits for the reader: the copy has begun; its own sleep keeps the pipe open
  const writer = start(
    ['/bin/sh', '-c', 'exec 3>"$1"; echo begun; exec sleep 60', 'sh', fifo],
    ['ignore', 'pipe', 'ignore'],
  );
  await once(writer.stdout ?? writer, 'data');
  stop.abort(new Error('SIGTERM'));
  await expect(end).rejects.toThrow('SIGTERM');
  killGroup(writer, 'SIGKILL');
  expect([open(), existsSync(scratch)]).toEqual([0, false]);
  await rm(folder, { recursive: true });
});

test.each([
  ['says nothing', (): Promise<void> => new Promise(() => {})],
  // vitest fails on what nobody looks at
  ['fails later', (): Promise<void> => new Promise((_, reject) => setImmediate(reject, new Error('it ended')))],
])('a signal at the moment at which a testbed owes an answer, and it %s', async (_, answer) => {
  const stop = new AbortController();
  const makeDirectory = (): Promise<void> => {
    stop.abort(new Error('SIGTERM'));
    return answer();
  };
  const { source, open } = hostWith({ makeDirectory });
  const input = new PassThrough();
  const io = { input, output: new PassThrough(), log: () => {} };
  input.write('open\n');
  await expect(serve(io, source, { copyTimeout: 0, signal: stop.signal })).rejects.toThrow('SIGTERM');
  await immediate();
  expect(open()).toBe(0);
});

test('a signal while nobody takes the replies ends the server', async () => {
  const stop = new AbortController();
  const { source, open } = hostWith({});
  let taken = 0;
  const full = new EventTarget();
  const output = new Writable({
    write(_chunk, _encoding, done) {
      if (++taken < 3) done();
      else full.dispatchEvent(new Event('full')); // and never done
    },
  });
  const input = new PassThrough();
  const waits = once(full, 'full');
  const end = serve({ input, output, log: () => {} }, source, { copyTimeout: 0, signal: stop.signal });
  input.write('open\ncapabilities\n');
  await waits;
  stop.abort(new Error('SIGTERM'));
  await expect(end).rejects.toThrow('SIGTERM');
  expect(open()).toBe(0);
});

test('a reader that has gone is told by its own error, after the testbed is closed; quit needs no reader', async () => {
  for (const [command, ends] of [
    ['capabilities', ReaderGone],
    ['quit', 0],
  ] as const) {
    const { source, open } = hostWith({});
    const [input, output] = [new PassThrough(), new PassThrough()];
    const end = serve({ input, output, log: () => {} }, source, { copyTimeout: 0, signal: never });
    const wire = new Asking({ toServer: input, fromServer: output, exited: new Promise(() => {}), terminate() {} });
    await wire.ask('open');
    output.destroy();
    input.write(`${command}\n`);
    if (ends === 0) expect(await end).toBe(0);
    else await expect(end).rejects.toBeInstanceOf(ends);
    expect(open()).toBe(0);
  }
});
