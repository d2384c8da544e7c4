/** Debian's own sbuild-update on images of docker and schroot; golden-bridge.test.ts is about overlay, and about all the rest. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { stateAt } from '../../src/config/state.ts';
import { isExecutable } from '../../src/exec/executable.ts';
import { run } from '../../src/exec/run.ts';
import { layoutOf } from '../../src/golden/layout.ts';
import { readHead, readManifest } from '../../src/golden/store.ts';
import { dockerUnavailable, startDockerDaemon, type DockerDaemon } from './fixtures/docker-daemon.ts';
import { goldbedWithCopy, program, virtProgram } from './fixtures/goldbed.ts';
import { breaks, plantIn, sbuildUpdate } from './fixtures/outdated-image.ts';
import { describeWith } from './fixtures/requirements.ts';

const image = 'bridge';
const notRoot = process.getuid?.() === 0 ? undefined : 'not root';
const noSbuild = isExecutable('/usr/bin/sbuild-update') ? undefined : 'apt-get install sbuild';
const noSchroot = isExecutable('/usr/bin/schroot') ? undefined : 'apt-get install schroot';

let daemon: DockerDaemon | undefined;
let home: string;
let state: string;
beforeAll(async () => {
  home = await mkdtemp(path.join(tmpdir(), 'goldbed-update-'));
  ({ state } = await goldbedWithCopy(image));
  if (dockerUnavailable() === undefined) daemon = await startDockerDaemon();
});
afterAll(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await rm(home, { recursive: true, force: true });
});

const environment = (): Record<string, string> => ({
  PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
  HOME: home,
  GOLDBED_NODE: process.execPath,
  GOLDBED_STATE: state,
  GOLDBED_DOCKER_SOCKET: daemon?.socket ?? '/nonexistent',
  GOLDBED_DOCKER_NETWORK: 'host',
});

for (const [backend, missing] of [
  ['docker', dockerUnavailable()],
  ['schroot', noSchroot],
] as const) {
  describeWith(backend, notRoot ?? missing ?? noSbuild, `sbuild-update on ${backend}`, () => {
    const update = () =>
      run([program, 'golden-update', '--backend', backend, image, '--', ...sbuildUpdate], { env: environment() });
    const current = async (): Promise<{ readonly generation: number; readonly gpgv: string | undefined }> => {
      const { generation } = await readHead(stateAt(state), image);
      const manifest = await readManifest(layoutOf(stateAt(state), image), generation);
      return { generation, gpgv: /^gpgv\t(\S+)/m.exec(manifest)?.[1] };
    };
    const plant = async (configuration: string): Promise<number> => {
      await plantIn({ argv: [virtProgram, backend, image], env: environment(), revert: true }, configuration);
      const { generation, gpgv } = await current();
      expect(gpgv).toBe('0.1');
      return generation;
    };

    test('a failing dist-upgrade is discarded, though sbuild-update ends with 0', async () => {
      const before = await plant(breaks);
      const updated = await update();
      expect([updated.code, await current()], updated.stderr).toEqual([1, { generation: before, gpgv: '0.1' }]);
      expect(updated.stderr).toMatch(/nothing was published: a command failed with 100: apt-get /);
    });

    test('a good upgrade is published', async () => {
      const before = await plant('');
      const updated = await update();
      expect(updated.code, updated.stderr).toBe(0);
      const after = await current();
      expect(after.generation).toBe(before + 1);
      expect(after.gpgv).not.toBe('0.1');
    });
  });
}
