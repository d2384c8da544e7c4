/** Runs the table against a server program, and the few things that need more than one write. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { decodeArgv } from '../../../src/protocol/adt-virt/words.ts';
import { serverVectors, type Expected, type Vector } from './server-vectors.ts';

export interface ServerUnderTest {
  readonly argv: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly revert: boolean;
  /** Who runs its commands, where that is not the test: turns a command into one that runs as somebody else. */
  readonly as?: (argv: readonly string[]) => readonly string[];
  /** A stock server that cannot open again what it has closed (unshare: its folder is made at its start). */
  readonly opensOnce?: true;
  /** A stock server: the table's other column, and none of the rows about what only ours do. */
  readonly stock?: true;
}

/** @param stock whether it is one of autopkgtest's own: `true` is 5.28 */
export function describeVirtServer(
  name: string,
  server: () => ServerUnderTest,
  revert: boolean,
  stock: boolean | '5.49' = false,
  reboot = false,
): void {
  describe(`${name}: the table`, () => {
    for (const vector of serverVectors) {
      if (vector.needs === 'revert' && !revert) continue;
      if (vector.needs === 'no-revert' && revert) continue;
      if (vector.needs === 'reboot' && !reboot) continue;
      if (vector.needs === 'no-reboot' && reboot) continue;
      const asOurs = stock === false || (stock === '5.49' && vector.stock549 === 'as ours');
      const expected: Expected | string = asOurs ? vector : (vector.stock ?? vector);
      if (typeof expected === 'string') continue; // it would hang
      test(vector.name, async () => {
        expect(await converse(server(), vector)).toEqual({ banner: 'ok', exit: expected.exit, ...matching(expected) });
      });
    }
  });
  describe(`${name}: conversations`, () => {
    conversations(server, revert, stock !== false);
  });
}

/** Replies are compared by pattern: what matches is replaced by the pattern's own text. */
let lastReplies: string[] = [];
function matching({ replies }: Expected): { replies: string[] } {
  return {
    replies: replies.map((pattern, i) =>
      pattern.test(lastReplies[i] ?? '\0') ? (lastReplies[i] ?? '') : String(pattern),
    ),
  };
}

async function converse(
  server: ServerUnderTest,
  vector: Vector,
): Promise<{ banner: string; replies: string[]; exit: number }> {
  const child = startServer(server);
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stdin?.write(vector.send);
  if (vector.eof === true) child.stdin?.end();
  const [code] = (await once(child, 'close')) as [number | null];
  const [banner = '', ...replies] = output.split('\n').slice(0, -1);
  lastReplies = replies;
  return { banner, replies, exit: code ?? -1 };
}

function conversations(server: () => ServerUnderTest, revert: boolean, stock: boolean): void {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'goldbed vector-'));
    await chmod(folder, 0o777); // the server may be another user's
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));
  const at = (name: string): string => path.join(folder, name);
  const as = (argv: readonly string[]): readonly string[] => server().as?.(argv) ?? argv;
  const word = (text: string): string => encodeURIComponent(text).replaceAll('%2F', '/');

  test('the same scratch path after close and open, and commands run there', async () => {
    const wire = new Wire(server());
    const first = await wire.ask('open');
    const argv = decodeArgv((await wire.ask('print-execute-command')).slice(3));
    const scratch = first.slice(3);
    const env = stock ? { PATH: '/usr/bin:/bin', ...server().env } : {};
    expect(await exec(as([...argv, 'sh', '-c', `cd ${scratch} && echo in; exit 77`]), env)).toEqual({
      code: 77,
      stdout: 'in\n',
    });
    expect(await wire.ask('close')).toBe('ok');
    if (server().opensOnce === true) return expect(await wire.ask('open')).toBe('(end of output)');
    expect(await wire.ask('open')).toBe(first);
    expect(await wire.quit()).toBe(0);
  });

  test('copies: names are decoded, links kept, directories merged', async () => {
    const wire = new Wire(server());
    const scratch = (await wire.ask('open')).slice(3);
    await mkdir(at('tree'));
    await writeFile(at('tree/a b%,é+'), 'content');
    await symlink('nowhere', at('tree/dangling'));
    await mkdir(at('back'));
    await chmod(at('back'), 0o777);
    await writeFile(at('back/only'), 'here');
    expect(await wire.ask(`copydown ${word(`${folder}/tree/`)} ${scratch}//t/`)).toBe('ok');
    expect(await wire.ask(`copyup ${scratch}/t/ ${word(`${folder}/back/`)}`)).toBe('ok');
    expect(await readFile(at('back/a b%,é+'), 'utf8')).toBe('content');
    expect(await readlink(at('back/dangling'))).toBe('nowhere');
    expect(await readFile(at('back/only'), 'utf8')).toBe('here');
    expect(await wire.quit()).toBe(0);
  });

  test('a copied file keeps its mode in both directions', async () => {
    if (stock) return expect(stock).toBe(true); // 5.28 loses it on the way up
    const wire = new Wire(server());
    const scratch = (await wire.ask('open')).slice(3);
    await writeFile(at('program'), '#!/bin/sh\n', { mode: 0o705 });
    expect(await wire.ask(`copydown ${word(at('program'))} ${scratch}/program`)).toBe('ok');
    expect(await wire.ask(`copyup ${scratch}/program ${word(at('again'))}`)).toBe('ok');
    expect(((await stat(at('again'))).mode & 0o777).toString(8)).toBe('705');
    expect(await wire.quit()).toBe(0);
  });

  test.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)('%s: cleans up and dies by it', async (signal) => {
    const wire = new Wire(server());
    await wire.ask('open');
    if (!stock) {
      await wire.ask('close'); // 5.28 forgets its handlers here
      await wire.ask('open');
    }
    const ended = once(wire.child, 'exit');
    wire.child.kill(signal);
    expect((await ended)[1]).toBe(signal);
  });

  if (!revert) return;
  test('revert keeps the scratch path and throws the changes away', async () => {
    const wire = new Wire(server());
    const opened = await wire.ask('open');
    const argv = decodeArgv((await wire.ask('print-execute-command')).slice(3));
    const env = stock ? { PATH: '/usr/bin:/bin', ...server().env } : {};
    await exec(as([...argv, 'sh', '-c', `touch /mark ${opened.slice(3)}/mark`]), env);
    expect(await wire.ask('revert')).toBe(opened);
    const after = decodeArgv((await wire.ask('print-execute-command')).slice(3));
    expect((await exec(as([...after, 'sh', '-c', `ls /mark ${opened.slice(3)}/mark`]), env)).code).toBe(2);
    expect(await wire.quit()).toBe(0);
  });
}

/** One command, one reply. */
export class Wire {
  readonly child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  #banner: Promise<string> | undefined;

  constructor(server: ServerUnderTest) {
    this.child = startServer(server);
    this.child.stdin?.on('error', () => {}); // a server that has ended is noticed by the missing answer
    if (this.child.stdout === null) throw new TypeError('no pipe');
    this.#lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
  }

  async ask(command: string): Promise<string> {
    await (this.#banner ??= this.#line());
    this.child.stdin?.write(`${command}\n`);
    return this.#line();
  }

  /** @returns the exit status; standard input stays open meanwhile */
  async quit(): Promise<number | null> {
    const ended = once(this.child, 'exit');
    this.child.stdin?.write('quit\n');
    const [code] = (await ended) as [number | null];
    return code;
  }

  async #line(): Promise<string> {
    const next = await this.#lines.next();
    return next.done === true ? '(end of output)' : next.value;
  }
}

function startServer({ argv: [program = '', ...args], env }: ServerUnderTest): ChildProcess {
  if (!existsSync(program)) throw new Error(`${program} is missing`);
  return spawn(program, args, {
    env: { PATH: '/usr/bin:/bin', ...env },
    stdio: ['pipe', 'pipe', 'ignore'],
    detached: true,
  });
}

/** With nothing in the environment: ours need none. Stock ones want at least PATH. */
function exec([program = '', ...args]: readonly string[], env = {}): Promise<{ code: number; stdout: string }> {
  return new Promise((resolve) => {
    execFile(program, args, { env }, (error, stdout) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout }),
    );
  });
}
