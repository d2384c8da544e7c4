/** A server that speaks TLS, asks for a password and for the client's own certificate. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { isExecutable } from '../../src/exec/executable.ts';
import { check } from '../../src/exec/run.ts';
import { connectRedis } from '../../src/redis/connect.ts';
import { renewalsOf } from './fixtures.ts';

let folder: string;
let server: ChildProcess;
let url: string;
const at = (name: string): string => path.join(folder, name);
const tls = (): { ca: string; cert: string; key: string } => ({
  ca: at('ca.crt'),
  cert: at('client.crt'),
  key: at('client.key'),
});

async function openssl(...args: string[]): Promise<void> {
  await check(['/usr/bin/openssl', ...args], { cwd: folder });
}

async function certificate(name: string, subject: string): Promise<void> {
  await writeFile(at(`${name}.ext`), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  const request = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-subj', `/CN=${subject}`];
  await openssl('req', '-new', ...request, '-keyout', at(`${name}.key`), '-out', at(`${name}.csr`));
  const signed = ['-CA', at('ca.crt'), '-CAkey', at('ca.key'), '-CAcreateserial', '-extfile', at(`${name}.ext`)];
  await openssl('x509', '-req', '-in', at(`${name}.csr`), ...signed, '-days', '2', '-out', at(`${name}.crt`));
}

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'goldbed-tls-'));
  const ca = [
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-subj',
    '/CN=test-ca',
    '-days',
    '2',
  ];
  await openssl('req', '-x509', ...ca, '-keyout', at('ca.key'), '-out', at('ca.crt'));
  await certificate('server', 'localhost');
  await certificate('client', 'worker');
  const port = await freePort();
  const program = ['/usr/bin/valkey-server', '/usr/bin/redis-server', '/usr/bin/redis-check-rdb'].find(isExecutable);
  const settings = {
    ...{ port: '0', 'tls-port': String(port), bind: '127.0.0.1', dir: folder },
    ...{ 'tls-cert-file': at('server.crt'), 'tls-key-file': at('server.key'), 'tls-ca-cert-file': at('ca.crt') },
    ...{ 'tls-auth-clients': 'yes', requirepass: 'hush', appendonly: 'yes', 'maxmemory-policy': 'noeviction' },
  };
  const args = Object.entries(settings).flatMap(([key, value]) => [`--${key}`, value]);
  server = spawn(program ?? 'redis-server', args, { argv0: 'redis-server', stdio: ['ignore', 'pipe', 'inherit'] });
  url = `rediss://:hush@localhost:${port}/`;
  let said = '';
  for await (const chunk of server.stdout ?? []) {
    said += String(chunk);
    if (said.includes('Ready to accept connections')) break;
  }
});
afterAll(async () => {
  const gone = once(server, 'exit');
  server.kill('SIGKILL');
  await gone;
  await rm(folder, { recursive: true, force: true });
});

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
}

test('with the authority, a certificate and the password: a connection, and its copies', async () => {
  await using redis = await connectRedis({ kind: 'url', url, allowUnsafe: false, tls: tls() }, 'test');
  expect(await redis.client.ping()).toBe('PONG');
  const copy = redis.duplicate();
  expect(await copy.ping()).toBe('PONG');
  copy.disconnect();
});

test('the thread that renews claims has all of them, too', async () => {
  await using redis = await connectRedis({ kind: 'url', url, allowUnsafe: false, tls: tls() }, 'test');
  await using renewals = renewalsOf(redis);
  // nobody knows this job, and only the server can tell
  const claim = { key: 'k', runId: 'run', attempt: 1, token: 't' };
  await new Promise<void>((lost) => void renewals.hold(claim, { every: 50, lock: 1000 }, lost));
});

test('without the authority the server is not trusted', async () => {
  const failure = await connectRedis({ kind: 'url', url, allowUnsafe: false }, 'test').catch(String);
  expect(failure).toMatch(/UnavailableError: Redis at rediss:\/\/localhost:\d+\/ cannot be used: .*certificate/i);
  expect(failure).not.toContain('hush');
});

test('without a certificate of its own a client is refused', async () => {
  const target = { kind: 'url', url, allowUnsafe: false, tls: { ca: at('ca.crt') } } as const;
  await expect(connectRedis(target, 'test')).rejects.toThrow(/cannot be used/);
});

test('a wrong password is told as that, and not shown', async () => {
  const target = { kind: 'url', url: url.replace('hush', 'guess'), allowUnsafe: false, tls: tls() } as const;
  const failure = await connectRedis(target, 'test').catch(String);
  expect(failure).toMatch(/WRONGPASS/);
  expect(failure).not.toContain('guess');
});

test('a file that is not there is named by its key; TLS files need a rediss address', async () => {
  const missing = { kind: 'url', url, allowUnsafe: false, tls: { ca: '/nonexistent/ca.pem' } } as const;
  await expect(connectRedis(missing, 'test')).rejects.toThrow(/redis\.tls\.ca: ENOENT.*\/nonexistent\/ca\.pem/);
  const plain = { kind: 'url', url: 'redis://localhost/', allowUnsafe: false, tls: tls() } as const;
  await expect(connectRedis(plain, 'test')).rejects.toThrow(/redis\.tls: expected a rediss:\/\/ address/);
});
