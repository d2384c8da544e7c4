/** A server as a child process: `autopkgtest-virt-*`, goldbed-virt, or anything else that speaks the protocol. */
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { cleanEnvironment, killGroup, start } from '../../exec/run.ts';
import type { Channel, ServerExit } from '../testbed.ts';

export interface ChildServerOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Lines of its standard error. */
  readonly log: (line: string) => void;
  /** Milliseconds between SIGTERM and SIGKILL when it is terminated: a clean-up may take long; default 60 s. */
  readonly killAfter?: number;
}

/** Lines of standard error that an error message quotes. */
const tailLength = 5;

/** How long after its end the rest of its standard error is waited for: a daemon that it left may hold it for ever. */
const tailLimit = 1000;

/**
 * Starts it in a session of its own, so that ^C on our terminal does not race its cleanup. Its standard input blocks, as
 * autopkgtest 5.49 requires. @throws when it cannot be started
 */
export async function startChildServer(argv: readonly string[], options: ChildServerOptions): Promise<Channel> {
  const child = start(argv, ['pipe', 'pipe', 'pipe'], { env: options.env ?? cleanEnvironment });
  const { stdin, stdout, stderr } = child;
  if (stdin === null || stdout === null || stderr === null) throw new TypeError('no pipes to the server');
  const tail: string[] = [];
  const heard = eachLine(stderr, (line) => {
    if (tail.push(line) > tailLength) tail.shift();
    options.log(line);
  });
  stdin.on('error', () => {}); // a dead server is noticed by its exit
  let ended = false;
  let killTimer: NodeJS.Timeout | undefined;
  const exited = new Promise<ServerExit>((resolve) => {
    child.once('exit', (code, signal) => {
      ended = true;
      clearTimeout(killTimer);
      const exit: ServerExit = signal === null ? { kind: 'code', code: code ?? 0 } : { kind: 'signal', signal };
      void heardOut(heard).then(() => resolve(exit));
    });
  });
  const terminate = (): void => {
    if (ended || killTimer !== undefined) return;
    child.kill('SIGTERM'); // the server alone: it cleans up with the help of its children
    killTimer = setTimeout(() => killGroup(child, 'SIGKILL'), options.killAfter ?? 60_000);
  };
  const kill = (): void => killGroup(child, 'SIGKILL');
  await once(child, 'spawn');
  return { toServer: stdin, fromServer: stdout, exited, terminate, kill, lastWords: () => tail.join('; ') };
}

/** Settles at the end of the stream. */
function eachLine(stream: Readable, take: (line: string) => void): Promise<void> {
  return new Promise((resolve) => {
    createInterface({ input: stream }).on('line', take).once('close', resolve);
  });
}

async function heardOut(heard: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, tailLimit);
  });
  await Promise.race([heard, limit]);
  clearTimeout(timer);
}
