/**
 * Cancelling all jobs of a label, an image or a host while they run: real builds on every backend that is here, and an
 * update that holds the lease of its image. What they held is free within ten seconds.
 */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import path from 'node:path';
import Docker from 'dockerode';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { isExecutable } from '../../src/exec/executable.ts';
import { testCache } from './fixtures/base-image.ts';
import { dockerUnavailable, startDockerDaemon, type DockerDaemon } from './fixtures/docker-daemon.ts';
import { baseRoot, Goldbed, goldbedWithImage, testImage } from './fixtures/goldbed.ts';
import { leftovers, logSays } from './fixtures/left-behind.ts';
import { describeWith } from './fixtures/requirements.ts';
import { writeToy } from './fixtures/toy-package.ts';
import { until } from './fixtures/until.ts';

const unavailable = process.getuid?.() === 0 ? await overlayBackend(stateAt('/nonexistent')).unavailable() : 'not root';
const noDocker = dockerUnavailable();
const backends = [
  'overlay',
  ...(isExecutable('/usr/bin/schroot') ? ['schroot'] : []),
  ...(noDocker === undefined ? ['docker'] : []),
];
if (backends.length < 3) process.stderr.write(`cancelling: only on ${backends.join(', ')}\n`);

/** An image in which apt-get update never ends. */
const stuckImage = 'stuck';
const marker = '31415926';

describeWith('overlay', unavailable, 'cancelling all of', () => {
  let goldbed: Goldbed;
  let daemon: DockerDaemon | undefined;
  let folder: string;
  let sources: string[];

  beforeAll(async () => {
    const { state } = await goldbedWithImage();
    daemon = noDocker === undefined ? await startDockerDaemon() : undefined;
    const docker = daemon === undefined ? {} : { GOLDBED_DOCKER_SOCKET: daemon.socket, GOLDBED_DOCKER_NETWORK: 'host' };
    goldbed = new Goldbed(state, docker);
    expect((await goldbed.run('image', 'update', testImage, '--wait')).code).toBe(0); // lists: builds need no network
    folder = await mkdtemp(path.join(tmpdir(), 'goldbed-cancel-'));
    for (const image of [testImage, stuckImage]) await goldbed.run('cancel', '--image', image); // of a run that was killed
    await importStuck(goldbed);
    sources = await Promise.all(
      backends.map((backend) => writeToy(folder, `toy-${backend}`, { build: `echo IN-THE-MIDDLE; sleep ${marker}` })),
    );
  });
  afterAll(async () => {
    await goldbed?.run('image', 'rm', stuckImage);
    await daemon?.[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  const json = (text: string): any => JSON.parse(text); // oxlint-disable-line typescript/no-explicit-any -- checked below

  /** A build on each of these backends, and an update; each is in the middle when this returns. */
  async function busy(label: string, on: readonly string[]): Promise<string[]> {
    const ids: string[] = [];
    for (const [index, backend] of backends.entries()) {
      if (!on.includes(backend)) continue;
      const args = ['--image', testImage, '--backend', backend, '--label', label];
      const ran = await goldbed.run('build', sources[index] ?? '', ...args);
      expect(ran.code, ran.stderr).toBe(0);
      ids.push(ran.stdout.trim());
    }
    const update = await goldbed.run('image', 'update', stuckImage, '--backend', 'overlay', '--label', label);
    for (const id of ids) await logSays(goldbed, id, 'IN-THE-MIDDLE');
    await until(() => sleepers().length > on.length);
    await until(async () => (await leases()).length > 0);
    return [...ids, update.stdout.trim()];
  }

  const leases = async (): Promise<unknown[]> => json((await goldbed.run('lease', 'ls', '--json')).stdout).leases;

  async function held(): Promise<unknown[]> {
    const seen = [
      ...leftovers(goldbed.state),
      ...sleepers(),
      ...schrootSessions(goldbed.state),
      ...(daemon === undefined ? [] : await containers(daemon)),
    ];
    if (seen.length > 0) return seen;
    const { images } = json((await goldbed.run('image', 'ls', '--json')).stdout);
    return [...(await leases()), ...images.filter(({ sessions }: { sessions: number }) => sessions > 0)];
  }

  // what is stopped is the same, whoever asks for it: a build on every backend once, and for each other way an update alone
  const ways: Record<string, { readonly on: readonly string[]; readonly words: (label: string) => string[][] }> = {
    'a label': { on: backends, words: (label) => [['--label', label]] },
    'an image': { on: [], words: () => [['--image', stuckImage]] },
    'a host': { on: [], words: () => [['--host', hostname()]] },
  };

  test.each(Object.keys(ways))(
    '%s: containers, mounts, processes, pins and leases',
    { timeout: 300_000 },
    async (way) => {
      const worker = await goldbed.startWorker('--slots', String(backends.length + 1));
      const label = way.replaceAll(' ', '-');
      const { on = [], words } = ways[way] ?? {};
      const ids = await busy(label, on);
      expect(json((await goldbed.run('ps', '--label', label, '--json')).stdout).jobs).toHaveLength(ids.length);
      const { images } = json((await goldbed.run('image', 'ls', '--json')).stdout);
      const stuck = images.find(({ name }: { name: string }) => name === stuckImage);
      expect(stuck).toMatchObject({ leases: [{ owner: expect.any(String), waiting: [] }] });
      for (const args of words?.(label) ?? []) {
        const cancelled = await goldbed.run('cancel', ...args, '--reason', 'enough of it');
        expect(cancelled.code, cancelled.stderr).toBe(0);
      }
      await until(async () => (await held()).length === 0);
      for (const id of ids) {
        const { state, failure } = json((await goldbed.run('show', id, '--json')).stdout);
        expect({ id, state, failure }).toMatchObject({ state: 'cancelled', failure: { message: 'enough of it' } });
      }
      worker.child.kill('SIGTERM'); // it ends once no slot is taken
      expect((await once(worker.child, 'exit'))[0]).toBe(0);
    },
  );
});

async function importStuck(goldbed: Goldbed): Promise<void> {
  const original = await baseRoot();
  const tree = await mkdtemp(path.join(testCache(), 'stuck-'));
  try {
    execFileSync('cp', ['--archive', `${original}/.`, tree]);
    const hook = `APT::Update::Pre-Invoke { "sleep ${marker}"; };\n`;
    await writeFile(path.join(tree, 'etc/apt/apt.conf.d/00stuck'), hook);
    await goldbed.run('image', 'rm', stuckImage); // of a run that was killed
    const made = await goldbed.run('image', 'import', stuckImage, tree);
    expect(made.code, made.stderr).toBe(0);
  } finally {
    rmSync(tree, { recursive: true, force: true });
  }
}

function sleepers(): string[] {
  return readdirSync('/proc').filter(
    (pid) => /^\d+$/.test(pid) && textOf(`/proc/${pid}/cmdline`) === `sleep\0${marker}\0`,
  );
}

function schrootSessions(state: string): string[] {
  const folder = '/var/lib/schroot/session';
  if (!existsSync(folder)) return [];
  return readdirSync(folder).filter((name) => textOf(path.join(folder, name)).includes(state));
}

/** What the daemon is just removing holds nothing any more. */
async function containers({ socket }: DockerDaemon): Promise<string[]> {
  const filters = { label: ['goldbed.session'], status: ['created', 'running', 'paused'] };
  const found = await new Docker({ socketPath: socket }).listContainers({ all: true, filters });
  return found.map(({ Id }) => Id);
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
