/** A server as a child process: `autopkgtest-virt-*`, goldbed-virt, or anything else that speaks the protocol. */
import { once } from 'node:events';
import { cleanEnvironment, killGroup, start } from '../../exec/run.ts';
import type { Channel, ServerExit } from '../testbed.ts';

export interface ChildServerOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Lines of its standard error. */
  readonly log: (line: string) => void;
}

/**
 * Starts it in a session of its own, so that ^C on our terminal does not race its cleanup. Its standard input blocks, as
 * autopkgtest 5.49 requires. @throws when it cannot be started
 */
export async function startChildServer(argv: readonly string[], options: ChildServerOptions): Promise<Channel> {
  const child = start(argv, ['pipe', 'pipe', 'pipe'], { env: options.env ?? cleanEnvironment });
  const { stdin, stdout, stderr } = child;
  if (stdin === null || stdout === null || stderr === null) throw new TypeError('no pipes to the server');
  let rest = '';
  stderr.on('data', (chunk: Buffer) => {
    const lines = (rest + chunk.toString()).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) options.log(line);
  });
  stdin.on('error', () => {}); // a dead server is noticed by its exit
  const exited = new Promise<ServerExit>((resolve) => {
    child.once('exit', (code, signal) => {
      resolve(signal === null ? { kind: 'code', code: code ?? 0 } : { kind: 'signal', signal });
    });
  });
  await once(child, 'spawn');
  return { toServer: stdin, fromServer: stdout, exited, terminate: () => killGroup(child, 'SIGTERM') };
}
