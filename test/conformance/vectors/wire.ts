/** A server program under test, and the raw wire to it. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { decodeArgv } from '../../../src/protocol/adt-virt/words.ts';

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

/** One command, one reply. */
export class Wire {
  readonly child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  #banner: Promise<string> | undefined;
  #said = '';

  constructor(server: ServerUnderTest) {
    this.child = startServer(server);
    this.child.stderr?.on('data', (chunk: Buffer) => (this.#said += chunk.toString()));
    this.child.stdin?.on('error', () => {}); // a server that has ended is noticed by the missing answer
    if (this.child.stdout === null) throw new TypeError('no pipe');
    this.#lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
  }

  async ask(command: string): Promise<string> {
    await (this.#banner ??= this.#line());
    this.child.stdin?.write(`${command}\n`);
    return this.#line();
  }

  /** The prefix that runs a command in the open testbed. */
  async executeCommand(): Promise<string[]> {
    return decodeArgv((await this.ask('print-execute-command')).slice('ok '.length));
  }

  /** Its standard error so far. */
  said(): string {
    return this.#said;
  }

  /** @returns its exit status, or the signal that it died of */
  async ended(): Promise<number | NodeJS.Signals | null> {
    const { child } = this;
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    return child.signalCode ?? child.exitCode;
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

export function startServer({ argv: [program = '', ...args], env }: ServerUnderTest): ChildProcess {
  if (!existsSync(program)) throw new Error(`${program} is missing`);
  return spawn(program, args, {
    env: { PATH: '/usr/bin:/bin', ...env },
    stdio: 'pipe',
    detached: true,
  });
}

/** With nothing in the environment: ours need none. Stock ones want at least PATH. */
export function exec([program = '', ...args]: readonly string[], env = {}): Promise<{ code: number; stdout: string }> {
  return new Promise((resolve) => {
    execFile(program, args, { env }, (error, stdout) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout }),
    );
  });
}
