/** What becomes of an import that does not go well, on a daemon that does as it is told: it takes any body that ends. */
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import Docker from 'dockerode';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { importImage } from '../../../src/backends/docker/import-image.ts';
import { run } from '../../../src/exec/run.ts';

let folder: string;
let daemon: Server;
/** The images that it has. */
let images: Set<string>;
/** What it does with a body, beside taking it. */
let onBody: (asked: IncomingMessage, answer: ServerResponse) => void;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'goldbed-import-'));
  await mkdir(path.join(folder, 'tree'));
  // more than fits into a pipe and a socket, and sparse: tar is still at it when something happens
  await run(['/usr/bin/truncate', '--size=1G', path.join(folder, 'tree/big')]);
  images = new Set();
  onBody = (asked) => void asked.resume();
  daemon = createServer(serve).listen(socket());
  await once(daemon, 'listening');
});
afterEach(async () => {
  daemon.closeAllConnections();
  daemon.close();
  await rm(folder, { recursive: true, force: true });
});

const socket = (): string => path.join(folder, 'socket');
const imported = (signal: AbortSignal): Promise<void> =>
  importImage(new Docker({ socketPath: socket() }), { layers: [path.join(folder, 'tree')] }, folder, 'tag', signal);

function serve(asked: IncomingMessage, answer: ServerResponse): void {
  const url = new URL(asked.url ?? '', 'http://daemon');
  if (asked.method === 'DELETE') {
    const had = images.delete(path.basename(url.pathname));
    return void answer.writeHead(had ? 200 : 404).end('{}');
  }
  asked.on('error', () => {});
  asked.on('end', () => {
    images.add(url.searchParams.get('repo') ?? '');
    answer.end('{"status":"done"}\n');
  });
  onBody(asked, answer);
}

/** Processes that pack this tree. */
async function packing(): Promise<string[]> {
  const { stdout } = await run(['/bin/sh', '-c', 'readlink /proc/[0-9]*/cwd']);
  return stdout.split('\n').filter((cwd) => cwd === path.join(folder, 'tree'));
}

test('one that is cancelled leaves no image: its body does not end', async () => {
  const stop = new AbortController();
  const closed = new Promise<void>((resolve) => {
    onBody = (asked) => {
      asked.on('data', () => stop.abort(new Error('cancelled')));
      asked.on('close', resolve);
    };
  });
  await expect(imported(stop.signal)).rejects.toThrow('cancelled');
  await closed;
  expect([...images]).toEqual([]);
  expect(await packing()).toEqual([]);
  expect(await readdir(folder)).toEqual(['socket', 'tree']);
});

test('one that the daemon refuses, and reads no further, ends with its words; tar does not stay', async () => {
  onBody = (asked, answer) => {
    asked.once('data', () => {
      asked.pause();
      answer.writeHead(500, { 'Content-Type': 'application/json' }).end('{"message":"no space left on device"}');
    });
  };
  await expect(imported(new AbortController().signal)).rejects.toThrow('no space left on device');
  expect(await packing()).toEqual([]);
});

test('one of a tree that cannot be packed leaves none, though its body has ended', async () => {
  await rm(path.join(folder, 'tree'), { recursive: true });
  await expect(imported(new AbortController().signal)).rejects.toThrow(/packing the image: .*tree/);
  expect([...images]).toEqual([]);
});
