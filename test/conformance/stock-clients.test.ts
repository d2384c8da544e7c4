/** Debian's own clients, unmodified, on each native backend; and the same work as jobs, on a backend that was asked for. */
import { readFile, mkdtemp, rm, mkdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { nativeBackends } from '../../src/backends/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { run } from '../../src/exec/run.ts';
import { dockerUnavailable, startDockerDaemon, type DockerDaemon } from './fixtures/docker-daemon.ts';
import { Goldbed, goldbedWithImage, testImage, virtProgram } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';
import { buildToy, writeVerdicts } from './fixtures/stock-clients.ts';
import { writeToy } from './fixtures/toy-package.ts';

const backends = nativeBackends(stateAt('/nonexistent'), {
  docker: { socket: '/nonexistent' },
  qemu: { memory: 1024, cpus: 1 },
});
let daemon: DockerDaemon | undefined;
let state: string;
let folder: string;
beforeAll(async () => {
  if (dockerUnavailable() === undefined) daemon = await startDockerDaemon();
  const goldbed = await goldbedWithImage();
  state = goldbed.state;
  expect((await goldbed.run('image', 'update', testImage, '--wait')).code).toBe(0); // apt's lists
});
afterAll(() => daemon?.[Symbol.asyncDispose]());
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'goldbed-clients-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const docker = (): Record<string, string> => ({
  GOLDBED_DOCKER_SOCKET: daemon?.socket ?? '/nonexistent',
  GOLDBED_DOCKER_NETWORK: 'host',
});
const environment = (): Record<string, string> => ({
  PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
  HOME: folder,
  LANG: 'C.UTF-8',
  GOLDBED_NODE: process.execPath,
  GOLDBED_STATE: state,
  ...docker(),
});

// a machine takes other images and half a minute for each start: test/nightly/qemu.test.ts
for (const backend of backends.filter(({ name }) => name !== 'qemu')) {
  const missing = backend.name === 'docker' ? dockerUnavailable() : await backend.unavailable();
  describeWith(backend.name, missing, `on ${backend.name}`, () => {
    test('sbuild builds a package', async () => {
      const built = await buildToy({ folder, state, image: testImage, backend: backend.name, env: environment() });
      expect(built.code, built.stdout.slice(-3000) + built.stderr).toBe(0);
      const contents = await run(['dpkg-deb', '--contents', path.join(folder, 'toy-stock_1.0_all.deb')]);
      expect(contents.stdout).toContain('./usr/share/toy-stock/file');
    });

    test('autopkgtest: passing, failing, skipped, and what needs a reboot; the exit code is the stock one', async () => {
      const tree = await writeToy(folder, 'toy-tests');
      await writeVerdicts(tree);
      const output = path.join(folder, 'out');
      const tested = await run(
        ['autopkgtest', `--output-dir=${output}`, '-B', tree, '--', virtProgram, backend.name, testImage],
        { env: environment() },
      );
      expect(tested.code, tested.stderr).toBe(6); // at least one failed, at least one was skipped: autopkgtest(1)
      const summary = (await readFile(path.join(output, 'summary'), 'utf8')).split('\n');
      const lines = new Set(summary.map((line) => line.replace(/\s+/g, ' ').trim()).filter((line) => line !== ''));
      expect([...lines]).toEqual([
        'reboots SKIP Test restriction "needs-reboot" requires testbed capability "reboot"',
        'passes PASS',
        'fails FAIL non-zero exit status 1',
        'skips SKIP exit status 77 and marked as skippable',
        'breaks PASS',
      ]);
    });

    if (backend.name === 'overlay') return; // its jobs are in jobs.test.ts
    test('a job that asks for it runs on it', async () => {
      const tree = await writeToy(folder, 'toy-job');
      const ran = await new Goldbed(state, docker()).run(
        ...['build', tree, '--image', testImage, '--backend', backend.name, '--json', '--wait'],
      );
      expect(ran.code, ran.stderr).toBe(0);
      expect(JSON.parse(ran.stdout)).toMatchObject({
        outcome: { backend: backend.name, result: { status: 'successful' } },
      });
    });
  });
}

describe('on an external server', () => {
  const configured = async (server: readonly string[]): Promise<Goldbed> => {
    await mkdir(path.join(folder, 'goldbed'));
    const config = { external: { 'from-outside': { server, suite: 'stable' } } };
    await writeFile(path.join(folder, 'goldbed/external.yaml'), JSON.stringify(config)); // JSON is YAML
    return new Goldbed(state, { XDG_CONFIG_HOME: folder });
  };

  test('a build runs there, and tells no generation', async () => {
    const server = path.join(folder, 'server');
    const exports = `export GOLDBED_STATE='${state}' GOLDBED_NODE='${process.execPath}'`;
    await writeFile(server, `#!/bin/sh\n${exports}\nexec ${virtProgram} overlay ${testImage}\n`, { mode: 0o755 });
    const goldbed = await configured([server]);
    const tree = await writeToy(folder, 'toy-external');
    const ran = await goldbed.run('build', tree, '--image', 'from-outside', '--json', '--wait');
    expect(ran.code, ran.stderr).toBe(0);
    const { outcome } = JSON.parse(ran.stdout) as { outcome: Record<string, unknown> };
    expect([outcome['backend'], outcome['generation']]).toEqual(['external', undefined]);
  });

  test('a program that is not there is an infrastructure failure that names it', async () => {
    const goldbed = await configured(['autopkgtest-virt-nonesuch']);
    const tree = await writeToy(folder, 'toy-nowhere');
    const ran = await goldbed.run('build', tree, '--image', 'from-outside', '--wait');
    expect(ran.code).toBe(76);
    expect(ran.stderr).toContain('autopkgtest-virt-nonesuch is not an executable of this host');
  });
});
