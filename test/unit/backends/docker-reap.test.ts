/** A clean-up of a docker daemon that is in a bad way. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { exportDockerImage } from '../../../src/backends/docker/export.ts';
import { dockerBackend } from '../../../src/backends/docker/index.ts';
import { stateAt } from '../../../src/config/state.ts';
import { isAlive, ownIdentity, processIdentitySchema } from '../../../src/exec/process-identity.ts';
import { say, startFakeDaemon, type Asked, type FakeDaemon } from './fixtures/fake-daemon.ts';

let daemon: FakeDaemon;
afterEach(async () => {
  vi.useRealTimers();
  await daemon[Symbol.asyncDispose]();
});

/** A session that a dead process has left. */
async function reap(): Promise<readonly string[]> {
  const state = stateAt(path.join(daemon.folder, 'state'));
  const folder = path.join(state.sessions, 'docker-dead');
  await mkdir(folder, { recursive: true });
  await mkdir(state.trash);
  const images = path.join(state.backends, 'docker');
  await mkdir(images, { recursive: true });
  await writeFile(path.join(images, 'tag.layers.json'), '["/nonexistent"]');
  await writeFile(path.join(folder, 'owner.json'), JSON.stringify({ ...ownIdentity(), started: '1' }));
  return dockerBackend(state, { socket: daemon.socket }).reap();
}

const containers = ['one', 'busy', 'three'].map((Id) => ({ Id, Labels: { 'goldbed.session': Id } }));

test('a container that cannot be removed, and its image, save neither the others nor the folders', async () => {
  const removed: string[] = [];
  daemon = await startFakeDaemon(({ what, answer }: Asked) => {
    if (what === 'GET /_ping') return say(answer, 200, 'OK');
    if (what === 'GET /containers/json') return say(answer, 200, containers);
    if (what === 'DELETE /containers/busy') return say(answer, 500, { message: 'device or resource busy' });
    if (what === 'DELETE /images/goldbed-2:tag') return say(answer, 409, { message: 'image is being used' });
    removed.push(what);
    say(answer, 200, {});
  });
  expect(await reap()).toEqual(['dead']);
  expect(removed.filter((what) => !what.includes('goldbed-layer-')).toSorted()).toEqual([
    'DELETE /containers/one',
    'DELETE /containers/three',
  ]);
});

test.each(['GET /containers/json', 'DELETE /containers/busy'])(
  'a daemon that hangs on %s holds nobody up',
  async (on) => {
    const { promise: hanging, resolve } = withResolvers();
    daemon = await startFakeDaemon(({ what, answer }: Asked) => {
      if (what === on) return resolve();
      if (what === 'GET /_ping') return say(answer, 200, 'OK');
      say(answer, 200, what === 'GET /containers/json' ? containers : {});
    });
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const reaped = reap();
    await hanging;
    await vi.advanceTimersByTimeAsync(60_000);
    expect(await reaped).toEqual(['dead']);
  },
);

test('the container of an import says whose it is: a killed one is found', async () => {
  let labels: Record<string, string> = {};
  daemon = await startFakeDaemon(async ({ what, answer, body }: Asked) => {
    if (what !== 'POST /containers/create') return say(answer, what.startsWith('DELETE') ? 204 : 500, {});
    labels = ((await body()) as { Labels?: typeof labels }).Labels ?? {};
    say(answer, 201, { Id: 'one' });
  });
  const file = path.join(daemon.folder, 'root.tar');
  const stop = new AbortController();
  await expect(exportDockerImage({ socket: daemon.socket }, 'image', file, stop.signal)).rejects.toThrow('500');
  expect(labels).toHaveProperty(['goldbed.session']);
  expect(isAlive(processIdentitySchema.parse(JSON.parse(labels['goldbed.owner'] ?? '')))).toBe(true);
});

function withResolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => {};
  const promise = new Promise<void>((done) => (resolve = done));
  return { promise, resolve };
}
