/** The lock is held by this process itself, not by a helper; and what is locked is the file that is there now. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { flock } from '../../../src/exec/flock.ts';
import { linesOf } from '../../lines.ts';

const program = path.join(import.meta.dirname, 'fixtures/hold-flock.ts');
const childrenOf = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);

async function temporaryFile(): Promise<{ readonly file: string } & AsyncDisposable> {
  const folder = await mkdtemp(path.join(tmpdir(), 'goldbed-flock-'));
  return {
    file: path.join(folder, 'lock'),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true }),
  };
}

/** A process that locks the file, says so, and waits for its end. */
async function holder(file: string) {
  const child = spawn(process.execPath, ['--import', 'tsx', program, file], { stdio: ['pipe', 'pipe', 'inherit'] });
  const said = linesOf(child.stdout);
  expect(await said()).toBe('begun');
  return { child, pid: child.pid ?? 0, said };
}

test('one holder at a time; whoever does not wait is told at once', async () => {
  await using place = await temporaryFile();
  const first = await flock(place.file);
  expect(await flock(place.file, undefined, false)).toBeUndefined();
  const order: string[] = [];
  const second = flock(place.file).then((lock) => {
    order.push('second');
    return lock;
  });
  order.push('first ends');
  await first[Symbol.asyncDispose]();
  await (await second)[Symbol.asyncDispose]();
  expect(order).toEqual(['first ends', 'second']);
});

test(
  'no helper stands between a holder and its lock: a stopped holder keeps it, a killed one does not',
  { timeout: 120_000 },
  async () => {
    await using place = await temporaryFile();
    const { child, pid, said } = await holder(place.file);
    expect(await said()).toBe('locked');
    expect(childrenOf(pid).filter((one) => /flock|\bread\b/.test(commandOf(one)))).toEqual([]);
    child.kill('SIGSTOP');
    expect(await flock(place.file, undefined, false)).toBeUndefined();
    const waiting = flock(place.file);
    child.kill('SIGKILL');
    await (await waiting)[Symbol.asyncDispose]();
  },
);

test('a waiter that is killed leaves nothing that waits on', { timeout: 120_000 }, async () => {
  await using place = await temporaryFile();
  await using _lock = await flock(place.file);
  const { child, pid } = await holder(place.file);
  let helper: number | undefined;
  while (helper === undefined)
    helper = childrenOf(pid).find((one) => /^\/usr\/bin\/flock (?!--nonblock)/.test(commandOf(one)));
  child.kill('SIGKILL');
  await once(child, 'exit');
  while (existsSync(`/proc/${helper}`) && !/^State:\s+Z/m.test(statusOf(helper))) await new Promise(setImmediate);
  expect(await flock(place.file, undefined, false)).toBeUndefined();
});

test('a file that was removed while one waited for it: what counts is the new one', async () => {
  await using place = await temporaryFile();
  const old = await flock(place.file);
  let held = false;
  const waiting = flock(place.file).then((lock) => {
    held = true;
    return lock;
  });
  await rename(place.file, `${place.file}.gone`);
  const current = await flock(place.file);
  await old[Symbol.asyncDispose]();
  await (await flock(`${place.file}.gone`))[Symbol.asyncDispose](); // its turn has come, or comes before the new one ends
  expect(held).toBe(false);
  await current[Symbol.asyncDispose]();
  await using mine = await waiting;
  expect(mine).toBeDefined();
  expect(await flock(place.file, undefined, false)).toBeUndefined();
});

test('waiting ends with the signal, and a file that cannot be opened is named', async () => {
  await using place = await temporaryFile();
  await using _lock = await flock(place.file);
  const stop = new AbortController();
  const waiting = flock(place.file, stop.signal);
  stop.abort(new Error('enough'));
  await expect(waiting).rejects.toThrow('enough');
  await expect(flock('/nonexistent/lock')).rejects.toThrow(/cannot lock \/nonexistent\/lock: .*no such file/i);
});

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
}

function statusOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    return 'State:\tZ';
  }
}
