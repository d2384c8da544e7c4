/**
 * `/metrics`, `/livez` and `/readyz` on a port of this host only. Every process there reaches it, packages that are
 * being built too (SECURITY.md): nothing that a request holds may throw, for it would end the worker.
 */
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Registry } from 'prom-client';
import { within } from '../exec/patience.ts';
import { messageOf, UnavailableError } from '../protocol/errors.ts';

export interface HealthServer extends AsyncDisposable {
  readonly port: number;
}

export interface HealthOptions {
  /** 0: any that is free. */
  readonly port: number;
  readonly registry: Registry;
  /** Why the worker cannot take jobs now; undefined when it can. */
  readonly notReady: () => Promise<string | undefined>;
}

/** Milliseconds for an answer: Redis may be away, and a scraper must be told. */
const limit = 5_000;

/** At a time: each is a file descriptor, and whoever opened thousands would leave the jobs of this worker none. */
const mostConnections = 64;

/** @throws {UnavailableError} the port is taken */
export async function startHealthServer({ port, registry, notReady }: HealthOptions): Promise<HealthServer> {
  const pages = new Map<string, () => Promise<Page>>([
    ['/livez', async () => ({ status: 200, text: 'ok\n' })],
    [
      '/readyz',
      async () => {
        const reason = await notReady();
        return reason === undefined ? { status: 200, text: 'ok\n' } : { status: 503, text: `${reason}\n` };
      },
    ],
    ['/metrics', async () => ({ status: 200, text: await registry.metrics(), type: registry.contentType })],
  ]);
  const nowhere: Page = { status: 404, text: `${[...pages.keys()].join(' ')}\n` };
  const find = async (address: string): Promise<Page> => {
    const [path = ''] = address.split('?'); // as it is: what a client sends need not be a URL, and `new URL` throws
    return (await pages.get(path)?.()) ?? nowhere;
  };
  const server = createServer((request, response) => {
    within(find(request.url ?? ''), limit, () => new Error('no answer from Redis'))
      .catch((error: unknown) => ({ status: 503, text: `${messageOf(error)}\n` }))
      .then((found) => answer(response, found))
      .catch(() => response.destroy());
  });
  server.maxConnections = mostConnections;
  try {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
  } catch (error) {
    throw new UnavailableError(`worker.metrics: cannot listen on port ${port}: ${messageOf(error)}`, { cause: error });
  }
  server.on('error', () => {}); // a connection that could not be accepted: no descriptor was left
  server.unref();
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
    },
  };
}

interface Page {
  readonly status: number;
  readonly text: string;
  readonly type?: string;
}

function answer(response: ServerResponse, { status, text, type = 'text/plain; charset=utf-8' }: Page): void {
  response.writeHead(status, { 'content-type': type }).end(text);
}
