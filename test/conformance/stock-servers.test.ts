/** Debian's own servers under the same table: the oracles. Where they differ from ours, the table says so. */
import { existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, test } from 'vitest';
import { check } from '../../src/exec/run.ts';
import { testCache } from './fixtures/base-image.ts';
import { baseRoot } from './fixtures/goldbed.ts';
import { dockerUnavailable, startDockerDaemon, type DockerDaemon } from './fixtures/docker-daemon.ts';
import { drive } from './fixtures/drive.ts';
import { ordinaryUser, ordinaryUserUnavailable } from './fixtures/ordinary-user.ts';
import { describeWith } from './fixtures/requirements.ts';
import { stockGeneration } from './fixtures/stock-generation.ts';
import { describeVirtServer, type ServerUnderTest } from './vectors/describe-virt-server.ts';

const stock = (name: string): string => `/usr/bin/autopkgtest-virt-${name}`;
const missing = (name: string): string | undefined =>
  existsSync(stock(name)) ? undefined : `${stock(name)} is missing: apt-get install autopkgtest`;
const generation = await stockGeneration();
const notRoot = process.getuid?.() === 0 ? undefined : 'not root';

describeWith('schroot', notRoot ?? missing('schroot'), 'stock schroot', () => {
  const name = 'goldbed-stock-test';
  const definition = `/etc/schroot/chroot.d/${name}`;
  beforeAll(async () => {
    const lines = [
      `[${name}]`,
      'type=directory',
      `directory=${await baseRoot()}`,
      'union-type=overlay',
      'root-users=root',
    ];
    await writeFile(definition, `${lines.join('\n')}\nprofile=buildd\n`);
  });
  afterAll(() => rm(definition, { force: true }));
  const server = (): ServerUnderTest => ({ argv: [stock('schroot'), name], revert: true, stock: true });
  describeVirtServer('autopkgtest-virt-schroot', server, true, generation);
  test('our client drives it', () => drive(server()));
});

const user = await ordinaryUser(path.join(testCache(), 'ordinary-user'));
const noUser = await ordinaryUserUnavailable(user, stock('unshare'));

describeWith('overlay-user', notRoot ?? missing('unshare') ?? noUser, 'stock unshare', () => {
  const tarball = path.join(testCache(), 'stock-unshare.tar');
  beforeAll(async () => {
    const root = await baseRoot();
    // it is unpacked at every open, and half of the files are there for people only
    const without = ['doc', 'info', 'locale', 'man', 'perl'].map((name) => `--exclude=./usr/share/${name}/*`);
    await check(['/bin/tar', '-C', root, '--numeric-owner', ...without, '-cf', tarball, '.']);
  });
  // as what it is made for: it takes even root for somebody who needs a line in /etc/subuid
  const server = (): ServerUnderTest => ({
    argv: user.as([stock('unshare'), '--tarball', tarball]),
    env: { HOME: user.home },
    as: (argv) => user.as(argv),
    ...(generation === true ? { opensOnce: true } : {}),
    revert: true,
    stock: true,
  });
  describeVirtServer('autopkgtest-virt-unshare', server, true, generation);
  test('our client drives it', () => drive(server()));
});

describeWith('docker', dockerUnavailable() ?? missing('docker'), 'stock docker', () => {
  let daemon: DockerDaemon;
  beforeAll(async () => {
    daemon = await startDockerDaemon();
    const { env } = daemon;
    const root = await baseRoot();
    await check(
      ['/bin/sh', '-c', 'tar -C "$1" --numeric-owner -c . | docker import - goldbed-stock-test', 'sh', root],
      { env },
    );
  });
  afterAll(() => daemon?.[Symbol.asyncDispose]());
  const server = (): ServerUnderTest => ({
    argv: [stock('docker'), 'goldbed-stock-test', '--', '--init', '--network=host'],
    env: daemon.env,
    revert: true,
    stock: true,
  });
  describeVirtServer('autopkgtest-virt-docker', server, true, generation);
  test('our client drives it', () => drive(server()));
});
