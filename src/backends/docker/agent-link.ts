/**
 * The connection from the first process of a container (libexec/docker-agent) to us. It tells when the container is
 * ready, makes directories without starting a process, and by its end, whatever causes it, ends the container.
 */
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import path from 'node:path';
import { within } from '../../exec/patience.ts';
import { TestbedError } from '../../protocol/errors.ts';

export interface AgentLink {
  /** Settles when the agent has connected and said so. @throws {TestbedError} after a minute */
  readonly ready: Promise<Ready>;
  /** Has the image's init boot, and waits until that is over. @throws {TestbedError} */
  boot(): Promise<void>;
  /** In the container. @param owner default: root @throws {TestbedError} */
  makeDirectory(path: string, mode: number, owner?: string): Promise<void>;
  /** Ends the container's first process, and so all of them. Idempotent. */
  end(): void;
}

export interface Ready {
  /** The image has an init, which waits for `boot`. */
  readonly init: boolean;
}

/** Milliseconds from listening to the agent's first word: creating and starting a container on a busy host. */
const readyLimit = 60_000;

/** Milliseconds for a boot: as stock servers wait. */
const bootLimit = 120_000;

/** Listens before the container is made. @param socketPath in a folder that the container sees */
export async function listenForAgent(socketPath: string): Promise<AgentLink> {
  let agent: Socket | undefined;
  const server: Server = createServer();
  // by the folder's descriptor: an address has 107 bytes (unix(7)), a state folder's path may be longer, and Node cuts it off
  const folder = await open(path.dirname(socketPath), 'r');
  server.once('close', () => void folder.close());
  server.listen(`/proc/self/fd/${folder.fd}/${path.basename(socketPath)}`);
  try {
    await once(server, 'listening');
  } catch (error) {
    await folder.close();
    throw error;
  }
  const ready = new Promise<Ready>((resolve, reject) => {
    const timer = setTimeout(() => reject(lost('its first process did not answer within a minute')), readyLimit);
    server.once('connection', (socket) => {
      agent = socket;
      server.close(); // one agent: nobody in the container can be a second
      socket.on('error', () => {});
      socket.once('data', (said: Buffer) => {
        clearTimeout(timer);
        resolve({ init: said.toString() === 'init\n' });
      });
    });
    server.once('close', () => agent ?? clearTimeout(timer));
  });
  ready.catch(() => {}); // whoever waits hears of it
  return {
    ready,
    boot: () => within(ask(agent, 'boot\n'), bootLimit, () => lost('its init was not up within two minutes')),
    makeDirectory: (directory, mode, owner) =>
      ask(agent, `mkdir ${mode.toString(8)} ${directory}${owner === undefined ? '' : ' own'}\n`),
    end() {
      server.close();
      agent?.destroy();
    },
  };
}

/** One request at a time: the server's commands are serial. */
function ask(agent: Socket | undefined, request: string): Promise<void> {
  return new Promise((resolve, reject) => {
    if (agent === undefined || agent.destroyed) return reject(lost('it has ended'));
    const closed = (): void => reject(lost('it has ended'));
    agent.once('close', closed);
    agent.once('data', (chunk: Buffer) => {
      agent.off('close', closed);
      const [, complaint] = /^error (.*)\n/.exec(chunk.toString()) ?? [];
      if (complaint === undefined) resolve();
      else reject(lost(complaint));
    });
    agent.write(request);
  });
}

function lost(why: string): TestbedError {
  return new TestbedError('open', 'docker', why);
}
