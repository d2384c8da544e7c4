/**
 * The server's side of adt-virt: reads commands, keeps the state, answers. It knows no backend: what a testbed can do is
 * told by the methods that its source has.
 *
 * Behaviour is that of autopkgtest's own servers (VirtSubproc.py) as its clients see it, except where those are wrong:
 * the capability list is stable, the end of input closes the testbed, copies keep modes and merge.
 */
import type { Readable, Writable } from 'node:stream';
import { messageOf, UnavailableError } from '../errors.ts';
import { GoldenRefusal, type TestbedSource } from '../testbed.ts';
import { unlessAborted } from '../../exec/patience.ts';
import { ProtocolError } from './protocol-error.ts';
import { ServedTestbed, type ServerOptions } from './served-testbed.ts';
import { verbs, type Verb } from './verbs.ts';
import { LineReader, LineTooLong } from './wire.ts';
import { parseLine } from './words.ts';

export interface ServerIo {
  readonly input: Readable;
  readonly output: Writable;
  /** One line of diagnostics, for standard error. */
  readonly log: (line: string) => void;
}

/** Nobody reads the replies any more. A stock server dies of SIGPIPE then; Node ignores that signal. */
export class ReaderGone extends Error {
  override readonly name = 'ReaderGone';
}

/**
 * Serves one client to its end. @returns the exit status: 0 after `quit`, 12 for a protocol error or the end of input, 16
 * when something else failed. @throws the signal's reason, or {ReaderGone}, after the testbed was closed
 */
export async function serve(io: ServerIo, source: TestbedSource, options: ServerOptions): Promise<number> {
  const testbed = new ServedTestbed(source, options, io.log);
  let status: number;
  try {
    status = await converse(io, testbed);
  } catch (error) {
    await testbed.cleanUp();
    options.signal.throwIfAborted();
    if (error instanceof ReaderGone) throw error;
    return report(error, io.log);
  }
  if (!(await testbed.cleanUp())) return 12;
  return status === 0 ? (source.exitStatus?.() ?? 0) : status;
}

async function converse({ input, output }: ServerIo, testbed: ServedTestbed): Promise<number> {
  const lines = new LineReader(input);
  const { signal } = testbed.options;
  output.on('error', () => {}); // each write hears of it by itself
  const reply = (line: string): Promise<void> => unlessAborted(send(output, line), signal);
  await reply('ok');
  for (;;) {
    const next = await unlessAborted(lines.next(), signal);
    if (next === undefined) throw new ProtocolError('end of file - caller quit?');
    const { word, verb, args } = parseCommand(next.line);
    // no reply to `quit`: autopkgtest has closed its end, and would take the error for ours
    if (word === 'quit') return 0;
    await reply(await answer(testbed, verb, args));
    if (next.partial) throw new ProtocolError('end of file - caller quit?');
  }
}

/** The verb may be percent-encoded, and spelled with `_` or `-`. @throws {ProtocolError} */
function parseCommand(line: string): { word: string; verb: Verb; args: readonly string[] } {
  const [written, ...args] = parseLine(line);
  if (written === undefined) throw new ProtocolError('empty commands are not permitted');
  const word = written.replaceAll('-', '_');
  const verb = verbs.get(word);
  if (verb === undefined) throw new ProtocolError(`unknown command \`${written.slice(0, 100)}'`);
  const [least, most] = verb.args;
  if (args.length < least) throw new ProtocolError(`too few arguments to command \`${written}'`);
  if (args.length > most) throw new ProtocolError(`too many arguments to command \`${written}'`);
  return { word, verb, args };
}

async function answer(testbed: ServedTestbed, verb: Verb, args: readonly string[]): Promise<string> {
  try {
    return await verb.run(testbed, args);
  } catch (error) {
    testbed.options.signal.throwIfAborted();
    if (!(error instanceof GoldenRefusal)) throw error;
    testbed.log(`goldbed-virt: ${error.word}: ${error.message}`);
    return error.word;
  }
}

/** @throws {ReaderGone} */
function send(output: Writable, reply: string): Promise<void> {
  return new Promise((resolve, reject) => {
    output.write(`${reply}\n`, (error) => {
      if (error) reject(new ReaderGone(error.message, { cause: error }));
      else resolve();
    });
  });
}

function report(error: unknown, log: (line: string) => void): number {
  if (error instanceof ProtocolError || error instanceof LineTooLong) {
    log(`goldbed-virt: failure: ${error.message}`);
    return 12;
  }
  if (error instanceof UnavailableError) {
    log(`goldbed-virt: ${error.message}`);
    return 16;
  }
  log(`goldbed-virt: unexpected error: ${messageOf(error)}`);
  return 16;
}
