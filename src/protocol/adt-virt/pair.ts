/** A server in this process: both ends of the wire, joined by streams. */
import { PassThrough } from 'node:stream';
import type { Channel, ServerExit, TestbedSource } from '../testbed.ts';
import { ReaderGone, serve } from './server.ts';

export interface InProcessOptions {
  /** Seconds for one copy; 0 for no limit. */
  readonly copyTimeout: number;
  readonly log: (line: string) => void;
  /** Ends the server, as SIGTERM would. */
  readonly signal: AbortSignal;
}

export function startInProcess(source: TestbedSource, options: InProcessOptions): Channel {
  const toServer = new PassThrough();
  const fromServer = new PassThrough();
  const stop = new AbortController();
  const signal = AbortSignal.any([options.signal, stop.signal]);
  const io = { input: toServer, output: fromServer, log: options.log };
  const exited = serve(io, source, { copyTimeout: options.copyTimeout, signal }).then(
    (code): ServerExit => ({ kind: 'code', code }),
    (error: unknown): ServerExit => ({ kind: 'signal', signal: error instanceof ReaderGone ? 'SIGPIPE' : 'SIGTERM' }),
  );
  void exited.then(() => fromServer.end());
  return { toServer, fromServer, exited, terminate: () => stop.abort(new Error('terminated')) };
}
