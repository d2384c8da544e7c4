/** A unix socket in front of the server that loses one reply: the command is carried out, the connection then breaks. */
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import path from 'node:path';

export interface LosingProxy extends AsyncDisposable {
  readonly socketPath: string;
  /** The next request whose bytes match is answered to nobody. @returns when that has happened */
  loseReplyTo(request: RegExp): Promise<void>;
}

export async function startLosingProxy(server: string): Promise<LosingProxy> {
  const socketPath = path.join(path.dirname(server), 'proxy.sock');
  let trap: { readonly request: RegExp; readonly sprung: () => void } | undefined;
  const proxy = createServer((near) => {
    const far = connect(server);
    let armed: typeof trap;
    const end = (): void => void [near.destroy(), far.destroy()];
    for (const socket of [near, far]) socket.on('error', end).on('close', end);
    near.on('data', (chunk: Buffer) => {
      if (trap?.request.test(chunk.toString('latin1'))) [armed, trap] = [trap, undefined];
      far.write(chunk);
    });
    far.on('data', (chunk: Buffer) => {
      if (armed === undefined) return void near.write(chunk);
      armed.sprung();
      end();
    });
  });
  proxy.listen(socketPath);
  await once(proxy, 'listening');
  return {
    socketPath,
    loseReplyTo: (request) => new Promise((sprung) => (trap = { request, sprung })),
    async [Symbol.asyncDispose]() {
      proxy.close();
      await rm(socketPath, { force: true });
    },
  };
}
