/**
 * A session served on a private unix socket. A client program reaches it through `goldbed-virt attach SOCKET`
 * (libexec/virt-attach). The wire is the protocol's own; the last line begins with NUL, as no reply does: `exit STATUS`, which
 * that program ends with.
 */
import { createServer, type Socket } from 'node:net';
import { once } from 'node:events';
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
  socket.end(`\0exit ${status}\n`);
}
