/** Every process of this host reaches the port, a package that is being built too: no request may end the worker. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { Registry } from 'prom-client';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startHealthServer, type HealthServer } from '../../../src/worker/health-server.ts';

let health: HealthServer;
let obstacle: () => Promise<string | undefined>;
const open = new Set<Socket>();

beforeEach(async () => {
  obstacle = async () => undefined;
  health = await startHealthServer({ port: 0, registry: new Registry(), notReady: () => obstacle() });
});
afterEach(async () => {
  for (const socket of open) socket.destroy();
  open.clear();
  await health[Symbol.asyncDispose]();
});

async function dial(): Promise<Socket> {
  const socket = connect(health.port, '127.0.0.1');
  open.add(socket.on('error', () => {}));
  await once(socket, 'connect');
  return socket;
}

/** All that it answers until it hangs up. */
async function say(text: string): Promise<string> {
  const socket = await dial();
  let answer = '';
  socket.on('data', (chunk: Buffer) => (answer += chunk.toString('latin1')));
  const closed = once(socket, 'close');
  socket.write(text, 'latin1');
  await closed;
  return answer;
}

const last = 'Host: x\r\nConnection: close\r\n\r\n';
const requests: [string, string, RegExp][] = [
  ['a path that is no URL', `GET // HTTP/1.1\r\n${last}`, /^HTTP\/1.1 404/],
  ['a broken address', `GET http://[/ HTTP/1.1\r\n${last}`, /^HTTP\/1.1 404/],
  ['a host that is none', `GET //%zz:-1/livez HTTP/1.1\r\n${last}`, /^HTTP\/1.1 404/],
  ['what every object has', `GET /__proto__ HTTP/1.1\r\n${last}`, /^HTTP\/1.1 404/],
  ['no path', `OPTIONS * HTTP/1.1\r\n${last}`, /^HTTP\/1.1 404/],
  ['a query', `GET /livez?a=// HTTP/1.1\r\n${last}`, /^HTTP\/1.1 200.*ok\n/s],
  ['no answer wanted', `HEAD /livez HTTP/1.1\r\n${last}`, /^HTTP\/1.1 200.*\r\n\r\n$/s],
  ['a method that there is not', `BREW /livez HTTP/1.1\r\n${last}`, /^HTTP\/1.1 400/],
  ['a tunnel', `CONNECT a:1 HTTP/1.1\r\n${last}`, /^$/],
  ['another protocol', `GET /livez HTTP/1.1\r\nUpgrade: x\r\nConnection: upgrade\r\n${last}`, /^HTTP\/1.1 200/],
  ['an expectation', `GET /livez HTTP/1.1\r\nExpect: nothing\r\n${last}`, /^HTTP\/1.1 417/],
  ['no host', 'GET /livez HTTP/1.1\r\n\r\n', /^HTTP\/1.1 400/],
  ['a huge header', `GET /livez HTTP/1.1\r\nX: ${'x'.repeat(100_000)}\r\n${last}`, /^(HTTP\/1.1 431|$)/],
  ['a huge path', `GET /${'x'.repeat(100_000)} HTTP/1.1\r\n${last}`, /^(HTTP\/1.1 431|$)/],
  ['a broken header', `GET /livez HTTP/1.1\r\nnothing\r\n${last}`, /^HTTP\/1.1 400/],
  ['two lengths', `POST /livez HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n${last}`, /^HTTP\/1.1 400/],
  ['a broken body', `POST /livez HTTP/1.1\r\nTransfer-Encoding: chunked\r\n${last}zz\r\n`, /^HTTP\/1.1 (200|400)/],
  ['no HTTP', '\x16\x03\x01\x00\x05', /^HTTP\/1.1 400/],
];

test.each(requests)('%s: the worker goes on', async (_, text, answer) => {
  expect(await say(text)).toMatch(answer);
  expect(await say(`GET /livez HTTP/1.1\r\n${last}`)).toMatch(/^HTTP\/1.1 200/);
});

test('whoever does not wait for the answer: the worker goes on', async () => {
  const socket = await dial();
  const asked = new Promise<() => void>((resolve) => {
    obstacle = () => new Promise((answered) => resolve(() => answered('late')));
  });
  socket.write(`GET /readyz HTTP/1.1\r\n${last}`);
  const tell = await asked;
  socket.resetAndDestroy();
  await say(`GET /livez HTTP/1.1\r\n${last}`); // by then the server has heard of it
  tell();
  expect(await say(`GET /livez HTTP/1.1\r\n${last}`)).toMatch(/^HTTP\/1.1 200/);
});

test('connections that say nothing leave the worker its file descriptors', async () => {
  const turnedAway = new Promise<void>((resolve) => {
    let gone = 0;
    for (let i = 0; i < 100; i += 1) {
      const socket = connect(health.port, '127.0.0.1');
      open.add(socket.on('error', () => {}).on('close', () => (gone += 1) === 36 && resolve()));
    }
  });
  await turnedAway;
  const idle = [...open].filter(({ closed }) => !closed);
  expect(idle).toHaveLength(64);
  await Promise.all(idle.map((socket) => once(socket.end(), 'close')));
  expect(await say(`GET /livez HTTP/1.1\r\n${last}`)).toMatch(/^HTTP\/1.1 200/);
});
