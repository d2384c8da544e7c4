/** Runs Debian's own client (sbuild, autopkgtest): its output goes to the attempt's log as it is, and is read for stages. */
import { StringDecoder } from 'node:string_decoder';
import type { WriteStream } from 'node:fs';
import path from 'node:path';
import { isExecutable } from '../exec/executable.ts';
import { ended, killGroup, start } from '../exec/run.ts';
import { TestbedError } from '../protocol/errors.ts';
import type { StageOfLine, StepClock } from './stages.ts';

export interface ClientRun {
  readonly argv: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  readonly log: WriteStream;
  readonly clock: StepClock;
  readonly stageOf: StageOfLine;
  /** Sees each line of the log, without its newline. */
  readonly onLine?: (line: string) => void;
}

/**
 * Milliseconds that a client may take to clean up after SIGTERM before it is killed: it closes its session, which we
 * serve. What a cancelled job held is promised to be free within ten seconds; three are left for the testbed to go
 * away.
 */
const grace = 7_000;

/**
 * A fixed script; the client's argv are its arguments. Node's pipes are sockets, which autopkgtest's `tee /dev/stderr`
 * cannot open: the shell makes a real one. The script and `cat` outlast a SIGTERM to the group, so that the client's last
 * words and its exit code arrive. setpriv: no client outlives a worker that is killed.
 */
const mortal = ['/usr/bin/setpriv', '--pdeathsig', 'KILL', '--'];
const script = `trap : TERM INT; ${mortal.join(' ')} "$@" 2>&1 | (trap '' TERM INT; exec /bin/cat)`;

/** @returns the client's exit code. @throws the signal's reason when aborted, once the client is gone */
export async function runClient(client: ClientRun, signal: AbortSignal): Promise<number> {
  const [program = ''] = client.argv;
  if (!isExecutable(program)) {
    throw new TestbedError('start', 'host', `${program} is missing: apt-get install ${path.basename(program)}`);
  }
  const argv = [...mortal, '/bin/bash', '-o', 'pipefail', '-c', script, 'client', ...client.argv];
  // the client starts goldbed-virt, which is to run under the Node that runs us: there may be none in its PATH
  const env = { ...client.env, GOLDBED_NODE: process.execPath };
  const child = start(argv, ['ignore', 'pipe', 'pipe'], { cwd: client.cwd, env, signal });
  const lines = lineReader((line) => {
    const stage = client.stageOf(line);
    if (stage !== undefined) client.clock.begin(stage);
    client.onLine?.(line);
  });
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      lines(chunk);
      if (client.log.destroyed || client.log.write(chunk)) return;
      stream.pause();
      onceWritable(client.log, () => stream.resume());
    });
  }
  try {
    return await ended(child, { signal, grace });
  } finally {
    killGroup(child, 'SIGKILL'); // what the client left in its process group
  }
}

/** Or never again: what the client says then is read and dropped, else its end would not be seen. */
function onceWritable(log: WriteStream, then: () => void): void {
  const done = (): void => {
    log.off('drain', done).off('close', done);
    then();
  };
  log.on('drain', done).on('close', done);
}

function lineReader(each: (line: string) => void): (chunk: Buffer) => void {
  const decoder = new StringDecoder('utf8');
  let rest = '';
  return (chunk) => {
    const lines = (rest + decoder.write(chunk)).split('\n');
    rest = (lines.pop() ?? '').slice(0, 65_536);
    for (const line of lines) each(line);
  };
}
