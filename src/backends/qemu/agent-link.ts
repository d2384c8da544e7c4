/**
 * Between the machine's agent and the programs that run commands in it: one connection to the agent's port, one to each
 * program, and a channel for each of these. How much is on its way is agreed between the two ends of a channel, so
 * nothing piles up here.
 */
import type { Socket } from 'node:net';
import { encodeFrame, FrameReader, type Frame } from './frames.ts';
import { listen } from './listen.ts';

export interface AgentLink {
  /** Settles when the system in the machine is up. */
  readonly up: Promise<void>;
  /** Tells the system in the machine to end, as its administrator would. */
  tell(what: 'reboot' | 'power off'): void;
  /** Nobody is connected any more, and nobody can connect. Idempotent. */
  end(): void;
}

export interface LinkSockets {
  /** Which the machine connects to. */
  readonly agent: string;
  /** Which libexec/qemu-enter connects to. */
  readonly run: string;
}

/** Bytes on their way to one program: four times what an agent may have on its way. */
const mostWaiting = 4 * 2 * 256 * 1024;

export async function listenForAgent(sockets: LinkSockets): Promise<AgentLink> {
  const clients = new Map<number, Socket>();
  let agent: Socket | undefined;
  let last = 0;
  let isUp = (): void => {};
  const up = new Promise<void>((resolve) => (isUp = resolve));
  const send = (frame: Frame): void => void agent?.write(encodeFrame(frame));

  const fromAgent = await listen(sockets.agent, (socket) => {
    if (agent !== undefined) return void socket.destroy();
    agent = socket;
    read(socket, ({ channel, letter, data }) => {
      if (channel === 0) return letter === 'Y' ? isUp() : undefined;
      const client = clients.get(channel);
      // the agent that we know never sends more than it was allowed to: this is another one
      if ((client?.writableLength ?? 0) > mostWaiting) return void socket.destroy();
      client?.write(encodeFrame({ channel: 0, letter, data }));
      if (letter !== 'S') return undefined;
      clients.delete(channel);
      client?.end();
    });
  });
  const fromClients = await listen(sockets.run, (socket) => {
    const channel = ++last;
    clients.set(channel, socket);
    read(socket, ({ letter, data }) => send({ channel, letter, data }));
    socket.once('close', () => {
      if (clients.delete(channel)) send({ channel, letter: 'X', data: Buffer.alloc(0) });
    });
  });
  return {
    up,
    tell: (what) => send({ channel: 0, letter: what === 'reboot' ? 'B' : 'P', data: Buffer.alloc(0) }),
    end() {
      for (const server of [fromAgent, fromClients]) server.close();
      for (const socket of [agent, ...clients.values()]) socket?.destroy();
      clients.clear();
    },
  };
}

/** Whoever sends what is no frame is cut off. */
function read(socket: Socket, each: (frame: Frame) => void): void {
  const frames = new FrameReader();
  socket.on('data', (chunk: Buffer) => {
    try {
      for (const frame of frames.push(chunk)) each(frame);
    } catch {
      socket.destroy();
    }
  });
}
