/** `/metrics`, `/livez` and `/readyz` on a port of this host only. */
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

/** @throws {UnavailableError} the port is taken */
export async function startHealthServer({ port, registry, notReady }: HealthOptions): Promise<HealthServer> {
  const pages: Readonly<Record<string, () => Promise<Page>>> = {
    '/livez': async () => ({ status: 200, text: 'ok\n' }),
    '/readyz': async () => {
      const reason = await notReady();
      return reason === undefined ? { status: 200, text: 'ok\n' } : { status: 503, text: `${reason}\n` };
    },
    '/metrics': async () => ({ status: 200, text: await registry.metrics(), type: registry.contentType }),
  };
  const server = createServer((request, response) => {
    const page = pages[new URL(request.url ?? '/', 'http://localhost').pathname];
    if (page === undefined) return answer(response, { status: 404, text: `${Object.keys(pages).join(' ')}\n` });
    within(page(), limit, () => new Error('no answer from Redis'))
      .catch((error: unknown) => ({ status: 503, text: `${messageOf(error)}\n` }))
      .then((found) => answer(response, found))
      .catch(() => response.destroy());
  });
  try {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
  } catch (error) {
    throw new UnavailableError(`worker.metrics: cannot listen on port ${port}: ${messageOf(error)}`, { cause: error });
  }
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
