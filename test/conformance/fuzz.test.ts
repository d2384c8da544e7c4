/**
 * Random conversations with the real goldbed-virt on a real image, ended in every way, also in the middle: what it
 * answers, how it ends, and that nothing is left. test/unit/adt-virt/fuzz.test.ts does more of them in less time.
 */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import Docker from 'dockerode';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { isExecutable } from '../../src/exec/executable.ts';
import { conversation } from '../unit/adt-virt/fixtures/fuzz-conversation.ts';
import { fuzzParameters } from '../unit/adt-virt/fixtures/fuzz-parameters.ts';
import { dockerUnavailable, startDockerDaemon, type DockerDaemon } from './fixtures/docker-daemon.ts';
import { FuzzWorld, places, type FuzzedBackend } from './fixtures/fuzz-world.ts';
import { describeWith } from './fixtures/requirements.ts';

const notRoot = process.getuid?.() === 0 ? undefined : 'not root';
const noSchroot = notRoot ?? (isExecutable('/usr/bin/schroot') ? undefined : 'apt-get install schroot');
const noOverlay = await overlayBackend(stateAt('/nonexistent')).unavailable();

/** Beyond it, the image is made anew: each layer makes opening slower, and flattening takes seconds. */
const maxGenerations = 6;

/** Empty for one that has just gone: others may use schroot, too. */
function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

async function fuzz(backend: FuzzedBackend, runs: number): Promise<void> {
  let world = await FuzzWorld.make(backend);
  const property = fc.asyncProperty(conversation({ places, maxCommands: 8, maxDelay: 400 }), async (one) => {
    expect(await world.complaints(one)).toEqual([]);
    if (world.generation <= maxGenerations) return;
    expect(await world.damaged()).toEqual([]);
    await world[Symbol.asyncDispose]();
    world = await FuzzWorld.make(backend);
  });
  try {
    await fc.assert(property, fuzzParameters(`conformance fuzz, ${backend.name}`, runs, 60_000));
    expect(await world.damaged()).toEqual([]);
  } finally {
    await world[Symbol.asyncDispose]();
  }
}

describeWith('overlay', noOverlay, 'fuzzing overlay', () => {
  test('random conversations', { timeout: 3_600_000 }, () => fuzz({ name: 'overlay' }, 25));
});

describeWith('schroot', noSchroot, 'fuzzing schroot', () => {
  test('random conversations', { timeout: 3_600_000 }, () => {
    const sessions = '/var/lib/schroot/session';
    const left = async (root: string): Promise<string[]> =>
      readdirSync(sessions).filter((name) => textOf(path.join(sessions, name)).includes(root));
    return fuzz({ name: 'schroot', left }, 6);
  });
});

/** One that has ended and that the daemon removes by itself is no longer ours to wait for, so it is waited for here. */
async function containersLeft(docker: Docker): Promise<string[]> {
  const left: string[] = [];
  for (const { Id } of await docker.listContainers({ all: true, filters: { label: ['goldbed.session'] } })) {
    const container = docker.getContainer(Id);
    try {
      const { State, HostConfig } = await container.inspect();
      if (State.Running || State.Status === 'created' || HostConfig.AutoRemove !== true)
        left.push(`${Id}: ${State.Status}`);
      else await container.wait({ condition: 'removed' });
    } catch (error) {
      if ((error as { statusCode?: number }).statusCode !== 404) throw error; // gone meanwhile
    }
  }
  return left;
}

describeWith('docker', dockerUnavailable(), 'fuzzing docker', () => {
  let daemon: DockerDaemon;
  beforeAll(async () => {
    daemon = await startDockerDaemon();
  });
  afterAll(() => daemon?.[Symbol.asyncDispose]());

  test('random conversations', { timeout: 3_600_000 }, () => {
    const left = () => containersLeft(new Docker({ socketPath: daemon.socket }));
    const env = { GOLDBED_DOCKER_SOCKET: daemon.socket, GOLDBED_DOCKER_NETWORK: 'host' };
    return fuzz({ name: 'docker', env, left }, 8);
  });
});
