/**
 * A unix socket in front of the server that can drop what passes, as a network does that is parted: nothing is closed, and
 * nobody is told. Connections that have lost something stay dead when it is mended; new ones get through.
 */
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import path from 'node:path';

export interface BlackholeProxy extends AsyncDisposable {
  readonly socketPath: string;
  drop(): void;
  mend(): void;
}

export async function startBlackholeProxy(server: string, name = 'blackhole'): Promise<BlackholeProxy> {
  const socketPath = path.join(path.dirname(server), `${name}.sock`);
  const open = new Set<Socket>();
  let dropping = false;
  const proxy = createServer((near) => {
    const far = connect(server);
    let dead = dropping;
    const end = (): void => {
      for (const socket of [near, far]) {
        socket.destroy();
        open.delete(socket);
      }
    };
    for (const socket of [near, far]) open.add(socket.on('error', end).on('close', end));
    const pass = (to: Socket) => (chunk: Buffer) => {
      dead ||= dropping;
      if (!dead) to.write(chunk);
    };
    near.on('data', pass(far));
    far.on('data', pass(near));
  });
  proxy.listen(socketPath);
  await once(proxy, 'listening');
  return {
    socketPath,
    drop: () => void (dropping = true),
    mend: () => void (dropping = false),
    async [Symbol.asyncDispose]() {
      proxy.close();
      for (const socket of open) socket.destroy();
      await rm(socketPath, { force: true });
    },
  };
}
