/**
 * The client's side of adt-virt: one conversation with one server, over any channel. Commands are sent one at a time.
 * Every answer that is not the one expected is a typed error that names the command and the answer.
 */
import { messageOf, TestbedError, type TestbedStep } from '../errors.ts';
import { GoldenRefusal, type Argv, type Channel, type GoldenRefusalWord, type ServerExit } from '../testbed.ts';
import { LineReader } from './wire.ts';
import { decodeArgv, decodeWord, encodeWord } from './words.ts';

export interface SessionOptions {
  /** For error messages. */
  readonly backend: string;
  /** Milliseconds that a server gets to end after `quit`, and twice that after it was terminated; default 30 s. */
  readonly grace?: number;
  /** Milliseconds that a session which is disposed of while open gets for `close`; default 5 minutes. */
  readonly closeLimit?: number;
}

/** A copy that failed or took too long; the session goes on. */
export class CopyError extends TestbedError {
  readonly reply: 'timeout' | 'copy-failed';
  constructor(reply: 'timeout' | 'copy-failed', backend: string, message: string) {
    super('copy', backend, message);
    this.reply = reply;
  }
}

/** The server knows the verb, and cannot do it here; the session goes on. */
export class Unsupported extends TestbedError {}

const goldenWords: readonly string[] = ['golden-locked', 'golden-unavailable', 'commit-failed', 'golden-changed'];

export class Session implements AsyncDisposable {
  readonly #channel: Channel;
  readonly #lines: LineReader;
  readonly #options: SessionOptions;
  #queue: Promise<unknown> = Promise.resolve();
  #open = false;
  #ended: Promise<ServerExit> | undefined;

  private constructor(channel: Channel, options: SessionOptions) {
    this.#channel = channel;
    this.#lines = new LineReader(channel.fromServer);
    this.#options = options;
  }

  /** Waits for the banner. @throws {TestbedError} */
  static async start(channel: Channel, options: SessionOptions): Promise<Session> {
    const session = new Session(channel, options);
    channel.toServer.on('error', () => {}); // a server that left is noticed by the missing answer
    try {
      const banner = await session.#read('start', 'start-up');
      if (banner !== 'ok') throw session.#unexpected('start', 'start-up', banner);
      return session;
    } catch (error) {
      await session.#stop();
      throw error;
    }
  }

  /** Without the stock servers' stray `ok` and duplicates. Values stay as the server sent them: encoded. */
  async capabilities(): Promise<string[]> {
    const words = await this.#command('protocol', 'capabilities');
    return [...new Set(words.filter((word) => word !== 'ok'))];
  }

  /** @returns the scratch directory in the testbed */
  async open(): Promise<string> {
    const scratch = await this.#one('open', 'open');
    this.#open = true;
    return scratch;
  }

  /** Needs the capability `golden-image`: a server without it ends here. @throws {GoldenRefusal|TestbedError} */
  async openGolden(): Promise<string> {
    const scratch = await this.#one('open', 'open-golden');
    this.#open = true;
    return scratch;
  }

  /** Publishes and closes; whatever the answer, the testbed is closed. @throws {GoldenRefusal|TestbedError} */
  async commitGolden(): Promise<void> {
    this.#open = false;
    await this.#none('commit', 'commit-golden');
  }

  /** Throws all changes away. @returns the scratch directory, at the same path */
  revert(): Promise<string> {
    return this.#one('revert', 'revert');
  }

  async reboot(prepareOnly = false): Promise<void> {
    // autopkgtest's servers answer `ok`, the README says that a path follows: both are fine
    await this.#command('reboot', ...(prepareOnly ? ['reboot', 'prepare-only'] : ['reboot']));
  }

  /** The prefix that runs a command in the testbed. Void after revert and close. */
  async executeCommand(): Promise<Argv> {
    const [first = ''] = await this.#command('protocol', 'print-execute-command');
    const [program, ...args] = decodeArgv(first); // what may follow are keywords, which nobody uses (README)
    if (program === undefined || program === '') throw this.#unexpected('protocol', 'print-execute-command', 'ok');
    return [program, ...args];
  }

  /** Host to testbed; both paths end in `/` for a directory, or neither. @throws {CopyError|TestbedError} */
  copyDown(source: string, target: string): Promise<void> {
    return this.#none('copy', 'copydown', source, target);
  }

  /** Testbed to host. @throws {CopyError|TestbedError} */
  copyUp(source: string, target: string): Promise<void> {
    return this.#none('copy', 'copyup', source, target);
  }

  /**
   * An interactive shell in the testbed, on the terminal that the server has; settles when it ends.
   * @param environment `NAME=value` words @throws {Unsupported} when the server has none, as old ones say
   */
  shell(directory: string, ...environment: readonly string[]): Promise<void> {
    return this.#none('run', 'shell', directory, ...environment);
  }

  /** Has the server tell on its standard error what it knows about a failure. Old servers end on it: ask when all is lost. */
  auxverbDebugFail(): Promise<void> {
    return this.#none('protocol', 'auxverb_debug_fail');
  }

  async close(): Promise<void> {
    this.#open = false;
    await this.#none('close', 'close');
  }

  /** Ends the server. @throws {TestbedError} when it did not end with 0 */
  async quit(): Promise<void> {
    const exit = await this.#end();
    if (exit.kind === 'code' && exit.code === 0) return;
    throw this.#error('close', `the server ended with ${exitText(exit)} after quit`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // quit, or its death, closes as well; a server that is stuck must not keep us
    if (this.#open)
      await within(
        this.close().catch(() => {}),
        this.#options.closeLimit ?? 300_000,
      );
    await this.#end();
  }

  #end(): Promise<ServerExit> {
    return (this.#ended ??= this.#sayGoodbye());
  }

  async #sayGoodbye(): Promise<ServerExit> {
    const { toServer, fromServer, exited } = this.#channel;
    toServer.end('quit\n'); // as autopkgtest: one that does not know quit may know the end of its input
    fromServer.resume(); // some servers answer; a closed pipe would make their exit status a lie
    return (await within(exited, this.#grace())) ?? this.#stop();
  }

  /** Does not return before it has ended: who exits then leaves no server behind. */
  async #stop(): Promise<ServerExit> {
    const { exited, terminate, kill } = this.#channel;
    terminate();
    const ended = await within(exited, 2 * this.#grace());
    if (ended !== undefined || kill === undefined) return ended ?? { kind: 'signal', signal: 'SIGTERM' };
    kill();
    return exited;
  }

  #grace(): number {
    return this.#options.grace ?? 30_000;
  }

  async #one(step: TestbedStep, ...command: string[]): Promise<string> {
    const words = await this.#command(step, ...command);
    const [only] = words;
    if (words.length !== 1 || only === undefined)
      throw this.#unexpected(step, command[0] ?? '', ['ok', ...words].join(' '));
    return decodeWord(only);
  }

  async #none(step: TestbedStep, ...command: string[]): Promise<void> {
    const words = await this.#command(step, ...command);
    if (words.length > 0) throw this.#unexpected(step, command[0] ?? '', ['ok', ...words].join(' '));
  }

  /** @returns the words after `ok`, still encoded */
  #command(step: TestbedStep, ...words: string[]): Promise<string[]> {
    const turn = this.#queue.then(() => this.#exchange(step, words));
    this.#queue = turn.catch(() => {});
    return turn;
  }

  async #exchange(step: TestbedStep, words: readonly string[]): Promise<string[]> {
    const [verb = ''] = words;
    this.#channel.toServer.write(`${words.map(encodeWord).join(' ')}\n`);
    const answer = await this.#read(step, verb);
    const [first, ...results] = answer.split(' ').filter(Boolean);
    if (first === 'ok') return results;
    if (first !== undefined && goldenWords.includes(first) && verb.endsWith('-golden')) {
      throw new GoldenRefusal(first as GoldenRefusalWord, `${verb}: the server answered ${answer}`);
    }
    if (step === 'copy' && (answer === 'timeout' || answer === 'copy-failed')) {
      throw new CopyError(answer, this.#options.backend, `${words.join(' ')}: ${answer}`);
    }
    if (verb === 'shell' && answer === 'not supported by virt server')
      throw new Unsupported(step, this.#options.backend, `${verb}: ${answer}`);
    throw this.#unexpected(step, verb, answer);
  }

  async #read(step: TestbedStep, verb: string): Promise<string> {
    const next = await this.#lines.next().catch((error: unknown) => {
      throw this.#error(step, `${verb}: ${messageOf(error)}`, error);
    });
    if (next !== undefined && !next.partial) return next.line;
    if (next !== undefined) throw this.#unexpected(step, verb, next.line);
    const exit = await within(this.#channel.exited, this.#grace());
    const how = exit === undefined ? '' : ` with ${exitText(exit)}`;
    const words = this.#channel.lastWords?.() ?? '';
    throw this.#error(step, `${verb}: the server ended${how} instead of answering${words && `: ${words}`}`);
  }

  #unexpected(step: TestbedStep, verb: string, answer: string): TestbedError {
    return this.#error(step, `${verb}: the server answered "${answer.slice(0, 200)}"`);
  }

  #error(step: TestbedStep, message: string, cause?: unknown): TestbedError {
    return new TestbedError(step, this.#options.backend, message, { cause });
  }
}

function exitText(exit: ServerExit): string {
  return exit.kind === 'code' ? `status ${exit.code}` : exit.signal;
}

async function within<T>(promise: Promise<T>, milliseconds: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), milliseconds);
  });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}
