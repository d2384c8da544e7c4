/** What becomes of an import that does not go well, on a daemon that does as it is told: it takes any body that ends. */
import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import Docker from 'dockerode';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { importImage } from '../../../src/backends/docker/import-image.ts';
import { run } from '../../../src/exec/run.ts';
import { say, startFakeDaemon, type Asked, type FakeDaemon } from './fixtures/fake-daemon.ts';

let daemon: FakeDaemon;
/** The images that it has. */
let images: Set<string>;
/** What it does with a body, beside taking it. */
let onBody: (asked: Asked) => void;

beforeEach(async () => {
  images = new Set();
  onBody = ({ request }) => void request.resume();
  daemon = await startFakeDaemon(serve);
  await mkdir(tree());
  // more than fits into a pipe and a socket, and sparse: tar is still at it when something happens
  await run(['/usr/bin/truncate', '--size=1G', path.join(tree(), 'big')]);
});
afterEach(() => daemon[Symbol.asyncDispose]());

const tree = (): string => path.join(daemon.folder, 'tree');
const imported = (signal: AbortSignal): Promise<void> =>
  importImage(new Docker({ socketPath: daemon.socket }), { layers: [tree()] }, daemon.folder, 'tag', signal);

function serve(asked: Asked): void {
  const { request, answer, url } = asked;
  if (request.method === 'DELETE') return say(answer, images.delete(path.basename(url.pathname)) ? 200 : 404, {});
  request.on('end', () => {
    images.add(url.searchParams.get('repo') ?? '');
    answer.end('{"status":"done"}\n');
  });
  onBody(asked);
}

/** Processes that pack this tree. */
async function packing(): Promise<string[]> {
  const { stdout } = await run(['/bin/sh', '-c', 'readlink /proc/[0-9]*/cwd']);
  return stdout.split('\n').filter((cwd) => cwd === tree());
}

test('one that is cancelled leaves no image: its body does not end', async () => {
  const stop = new AbortController();
  const closed = new Promise<void>((resolve) => {
    onBody = ({ request }) => {
      request.on('data', () => stop.abort(new Error('cancelled')));
      request.on('close', resolve);
    };
  });
  await expect(imported(stop.signal)).rejects.toThrow('cancelled');
  await closed;
  expect([...images]).toEqual([]);
  expect(await packing()).toEqual([]);
  expect(await readdir(daemon.folder)).toEqual(['docker.sock', 'tree']);
});

test('one that the daemon refuses, and reads no further, ends with its words; tar does not stay', async () => {
  onBody = ({ request, answer }) => {
    request.once('data', () => {
      request.pause();
      say(answer, 500, { message: 'no space left on device' });
    });
  };
  await expect(imported(new AbortController().signal)).rejects.toThrow('no space left on device');
  expect(await packing()).toEqual([]);
});

test('one of a tree that cannot be packed leaves none, though its body has ended', async () => {
  await rm(tree(), { recursive: true });
  await expect(imported(new AbortController().signal)).rejects.toThrow(/packing the image: .*tree/);
  expect([...images]).toEqual([]);
});
