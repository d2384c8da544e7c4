/**
 * A session served on a private unix socket, and the relay that a client program starts to reach it. The wire is the
 * protocol's own; beside it the server sends control lines, which begin with NUL (no reply ever does): JSON with `log`
 * (a line for standard error) or, as the last thing, `exit` (the status that the relay ends with).
 */
import { createConnection, createServer, type Socket } from 'node:net';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import type { Channel } from '../testbed.ts';
import { LineReader } from './wire.ts';

/** Sees the conversation pass. */
export interface Tap {
  onCommand(line: string): void;
  onReply(line: string): void;
}

/** Serves one client; a second one is turned away. The socket's folder must be private. Dispose stops listening. */
export async function listen(socketPath: string, channel: Channel, tap: Tap): Promise<AsyncDisposable> {
  let client: Socket | undefined;
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    if (client !== undefined) {
      socket.destroy();
      return;
    }
    client = socket;
    socket.on('error', () => {}); // the end of the stream tells
    // a client's endless line, or a server's, is the end of this session and of nothing else
    void relayCommands(socket, channel, tap).catch(() => channel.toServer.end());
    void relayReplies(channel, socket, tap).catch(() => {
      channel.terminate();
      socket.destroy();
    });
  });
  server.listen(socketPath);
  await once(server, 'listening');
  return {
    async [Symbol.asyncDispose]() {
      client?.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function relayCommands(socket: Socket, channel: Channel, tap: Tap): Promise<void> {
  const lines = new LineReader(socket);
  for (let next = await lines.next(); next !== undefined; next = await lines.next()) {
    tap.onCommand(next.line);
    channel.toServer.write(next.partial ? next.line : `${next.line}\n`);
  }
  channel.toServer.end();
}

async function relayReplies(channel: Channel, socket: Socket, tap: Tap): Promise<void> {
  const lines = new LineReader(channel.fromServer);
  for (let next = await lines.next(); next !== undefined; next = await lines.next()) {
    tap.onReply(next.line);
    socket.write(`${next.line}\n`);
  }
  const exit = await channel.exited;
  const status = exit.kind === 'code' ? exit.code : 16;
  socket.end(`\0${JSON.stringify({ exit: status })}\n`);
}

/**
 * The relay: `goldbed-virt attach SOCKET`. Ends with the server, also while its own input is still open.
 * @returns the exit status; 16 when the server went away without a word
 */
export async function attach(socketPath: string, stdin: Readable, stdout: Writable, stderr: Writable): Promise<number> {
  const socket = createConnection({ path: socketPath, allowHalfOpen: true });
  try {
    await once(socket, 'connect');
  } catch (error) {
    stderr.write(
      `goldbed-virt: cannot reach ${socketPath}: ${error instanceof Error ? error.message : String(error)}\n`,
    );
    return 16;
  }
  socket.on('error', () => {});
  stdout.on('error', () => {}); // autopkgtest closes its end before it says quit
  stdin.pipe(socket);
  const lines = new LineReader(socket);
  for (let next = await lines.next(); next !== undefined; next = await lines.next()) {
    if (!next.line.startsWith('\0')) {
      stdout.write(`${next.line}\n`);
      continue;
    }
    const control = JSON.parse(next.line.slice(1)) as { log?: string; exit?: number };
    if (control.log !== undefined) stderr.write(`${control.log}\n`);
    if (control.exit !== undefined) return control.exit;
  }
  stderr.write(`goldbed-virt: the session behind ${socketPath} went away\n`);
  return 16;
}
