/** A unix socket that somebody connects to, in the place of one that an earlier machine had. */
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';

export async function listen(socketPath: string, connected: (socket: Socket) => void): Promise<Server> {
  rmSync(socketPath, { force: true });
  const server = createServer((socket) => {
    socket.on('error', () => {}); // it closes then
    connected(socket);
  });
  server.listen(socketPath);
  await once(server, 'listening');
  return server;
}
