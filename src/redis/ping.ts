/** Is there a Redis behind this socket that answers? One connection, one inline command, no client library's retries. */
import { createConnection } from 'node:net';

/** `busy`: somebody listens, but does not answer, or still loads its data. `gone`: nobody listens. */
export type Answer = 'ready' | 'busy' | 'gone';

/** Milliseconds for an answer. */
const patience = 2000;

export function look(socketPath: string): Promise<Answer> {
  return new Promise((resolve) => {
    const socket = createConnection(socketPath);
    const done = (answer: Answer): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(patience, () => done('busy'));
    // a full backlog (EAGAIN) is somebody, too
    socket.once('error', ({ code }: NodeJS.ErrnoException) => {
      done(code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'ECONNRESET' ? 'gone' : 'busy');
    });
    socket.once('close', () => resolve('gone'));
    socket.once('connect', () => socket.write('PING\r\n'));
    socket.once('data', (chunk: Buffer) => done(chunk.toString().startsWith('+PONG') ? 'ready' : 'busy'));
  });
}

export async function ping(socketPath: string): Promise<boolean> {
  return (await look(socketPath)) === 'ready';
}
