/** Paths that are too long for a unix socket are told before anybody listens there: Node would cut them off. */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { qemuUnavailable } from '../../../src/backends/qemu/emulator.ts';
import { qemuBackend } from '../../../src/backends/qemu/index.ts';
import { stateAt } from '../../../src/config/state.ts';
import { tooLongForSocket } from '../../../src/exec/socket-path.ts';
import { UnavailableError } from '../../../src/protocol/errors.ts';
import { acquireEmbedded } from '../../../src/redis/embedded.ts';
import { checkSocketFolder } from '../../../src/worker/served-session.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'goldbed-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const long =
  /^the state folder's path is too long for \/.*\.sock: a unix socket's path has at most 107 bytes; set GOLDBED_STATE$/;

test('what is said to be short enough is where a server listens, to the byte', async () => {
  const longest = path.join(folder, 'x'.repeat(106 - folder.length));
  expect(tooLongForSocket(longest)).toBeUndefined();
  const server = createServer().listen(longest);
  await once(server, 'listening');
  expect(existsSync(longest)).toBe(true);
  server.close();
  expect(tooLongForSocket(`${longest}.sock`)).toMatch(long);
  expect(tooLongForSocket(`/${'ä'.repeat(60)}.sock`)).toMatch(long); // bytes, not letters
});

test('the embedded Redis, a worker and qemu say so at once', async () => {
  const state = stateAt(path.join(folder, 'x'.repeat(100)));
  await mkdir(state.root);
  await expect(acquireEmbedded(state, new AbortController().signal)).rejects.toThrow(UnavailableError);
  expect(() => checkSocketFolder(state.workers)).toThrow(long);
  expect(() => checkSocketFolder(path.join(folder, 'workers'))).not.toThrow();
  const settings = { memory: 1024, cpus: 1 };
  expect(await qemuBackend(state, settings).unavailable()).toMatch(qemuUnavailable() === undefined ? long : /qemu/);
  expect(await qemuBackend(stateAt(folder), settings).unavailable()).toBe(qemuUnavailable());
});
