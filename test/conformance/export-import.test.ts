/** Images from and to what other programs have: tar files, the chroots of schroot, and sbuild's own unshare mode. */
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, chown, cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { isExecutable } from '../../src/exec/executable.ts';
import { check, run } from '../../src/exec/run.ts';
import { decodeArgv } from '../../src/protocol/adt-virt/words.ts';
import { hostSuite, testCache } from './fixtures/base-image.ts';
import { Goldbed, goldbedWithImage, smallImage, testImage, virtProgram } from './fixtures/goldbed.ts';
import { ordinaryUser, ordinaryUserUnavailable } from './fixtures/ordinary-user.ts';
import { describeWith } from './fixtures/requirements.ts';
import { smallRoot, type SmallRoot } from './fixtures/small-root.ts';
import { writeToy } from './fixtures/toy-package.ts';
import { Wire } from './vectors/describe-virt-server.ts';

const notRoot = process.getuid?.() === 0 ? undefined : 'not root';
const noOverlay = await overlayBackend(stateAt('/nonexistent')).unavailable();
const noSchroot = notRoot ?? (isExecutable('/usr/bin/schroot') ? undefined : 'apt-get install schroot');
const stockUnshare = '/usr/bin/autopkgtest-virt-unshare';
const user = await ordinaryUser(path.join(testCache(), 'ordinary-user'));
const noUser = await ordinaryUserUnavailable(user, stockUnshare);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(testCache(), 'export-'));
  await chmod(folder, 0o755);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describeWith('unshare', noUser, 'what is exported', () => {
  test('sbuild --chroot-mode=unshare builds in FILE.tar.zst as it is', { timeout: 600_000 }, async () => {
    const goldbed = await goldbedWithImage();
    const file = path.join(folder, `${await hostSuite()}.tar.zst`);
    const exported = await goldbed.run('image', 'export', testImage, '-o', file);
    expect(exported.code, exported.stderr).toBe(0);
    const home = await mkdtemp(path.join(user.home, 'build-'));
    try {
      const control = path.join(await writeToy(home, 'toy-unshare'), 'debian/control');
      const text = await readFile(control, 'utf8');
      await writeFile(control, text.replace('Standards-Version', 'Rules-Requires-Root: no\nStandards-Version')); // no fakeroot
      await check(['/usr/bin/dpkg-source', '--build', 'toy-unshare-1.0'], { cwd: home });
      await check(['/bin/chown', '--recursive', '--reference', user.home, home]);
      const without = ['--no-apt-update', '--no-apt-upgrade', '--no-apt-distupgrade', '--build-dep-resolver=null'];
      const checks = ['--no-run-lintian', '--no-run-autopkgtest', '--no-run-piuparts'];
      const sbuild = ['/usr/bin/sbuild', '--chroot-mode=unshare', `--chroot=${file}`, `--dist=${await hostSuite()}`];
      const argv = [...sbuild, ...without, ...checks, '--arch-all', 'toy-unshare_1.0.dsc'];
      const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: home, LC_ALL: 'C.UTF-8' };
      const built = await run(user.as(['/bin/sh', '-c', 'cd "$HOME" && exec "$@"', 'sh', ...argv]), { env });
      const log = await check(['/bin/sh', '-c', 'cat ./*.build | tail -n 40'], { cwd: home });
      expect(built.code, `${built.stderr}\n${log.stdout}`).toBe(0);
      expect(existsSync(path.join(home, 'toy-unshare_1.0_all.deb'))).toBe(true);
    } finally {
      await rm(home, { recursive: true });
    }
  });

  test('the stock unshare server opens', async () => {
    const goldbed = await goldbedWithImage(smallImage);
    const file = path.join(folder, 'small.tar.gz');
    const exported = await goldbed.run('image', 'export', smallImage.name, '-o', file);
    expect(exported.code, exported.stderr).toBe(0);
    const env = { HOME: user.home };
    const wire = new Wire({ argv: user.as([stockUnshare, '--tarball', file]), env, revert: true, stock: true });
    expect(await wire.ask('open')).toMatch(/^ok \//);
    const auxverb = decodeArgv((await wire.ask('print-execute-command')).slice(3));
    const argv = user.as([...auxverb, '/bin/sh', '-c', 'dpkg --audit && apt-get --version']);
    expect((await run(argv, { env: { PATH: '/usr/bin:/bin', ...env } })).stdout).toMatch(/^apt \d/);
    expect(await wire.ask('close')).toBe('ok');
    await wire.quit();
  });
});

/** The least that an image can be made of: a shell, dpkg, and what that says is installed. No apt. */
async function tinyDebian(): Promise<SmallRoot> {
  const root = await smallRoot(['/usr/bin/dpkg', '/usr/bin/dpkg-query', '/usr/bin/test']);
  const at = (name: string): string => path.join(root.folder, name);
  await cp('/bin/true', at('bin/true'));
  for (const table of ['info', 'updates']) await mkdir(at(`var/lib/dpkg/${table}`), { recursive: true });
  await mkdir(at('usr/share/dpkg'), { recursive: true });
  for (const name of ['cputable', 'ostable', 'tupletable'])
    await cp(`/usr/share/dpkg/${name}`, at(`usr/share/dpkg/${name}`));
  await mkdir(at('usr/lib'), { recursive: true });
  const status = {
    Package: 'dpkg',
    Status: 'install ok installed',
    Architecture: 'amd64',
    Version: '1.2',
    Maintainer: 'm',
    Description: 'd',
  };
  const fields = Object.entries(status).map(([name, value]) => `${name}: ${value}\n`);
  await writeFile(at('var/lib/dpkg/status'), fields.join(''));
  await writeFile(at('var/lib/dpkg/info/dpkg.list'), '/.\n');
  await writeFile(at('var/lib/dpkg/info/dpkg.md5sums'), '');
  await writeFile(at('usr/lib/os-release'), 'VERSION_CODENAME=tiny\n');
  await writeFile(at('mine'), 'mine\n');
  await chown(at('mine'), 5, 60);
  return root;
}

describeWith('overlay', notRoot ?? noOverlay, 'importing', () => {
  let root: SmallRoot;
  let goldbed: Goldbed;
  beforeAll(async () => {
    root = await tinyDebian();
    goldbed = new Goldbed(path.join(folder, 'state'));
  });
  afterAll(() => root?.[Symbol.asyncDispose]());

  /** Imports it, looks into a session on it, and removes it. */
  async function imported(from: string): Promise<void> {
    const made = await goldbed.run('image', 'import', 'tiny', from, '--json');
    expect(made.code, made.stderr).toBe(0);
    expect(JSON.parse(made.stdout)).toMatchObject({
      record: {
        strategy: 'import',
        packages: 1,
        recipe: { suite: 'tiny', arch: 'amd64' },
        verified: ['dpkg --audit', 'apt-get check: not run (no apt in it)', 'fresh session'],
      },
    });
    const env = { GOLDBED_NODE: process.execPath, GOLDBED_STATE: goldbed.state };
    const wire = new Wire({ argv: [virtProgram, 'overlay', 'tiny'], env, revert: true });
    expect(await wire.ask('open')).toMatch(/^ok \//);
    const auxverb = decodeArgv((await wire.ask('print-execute-command')).slice(3));
    expect((await run([...auxverb, '/bin/sh', '-c', 'cat /mine; ls -n /mine'])).stdout).toMatch(/^mine\n\S+ 1 5 60 5 /);
    expect(await wire.quit()).toBe(0);
    expect((await goldbed.run('image', 'rm', 'tiny')).code).toBe(0);
  }

  test.each([
    ['.tar', []],
    ['.tar.gz', ['--gzip']],
    ['.tar.xz', ['--xz']],
    ['.tar.zst', ['--zstd']],
  ] as const)('a %s', async (ending, compress) => {
    const file = path.join(folder, `tiny${ending}`);
    await check(['/bin/tar', '--create', ...compress, `--file=${file}`, `--directory=${root.folder}`, '.']);
    await imported(file);
  });

  describeWith('schroot', noSchroot, 'from schroot', () => {
    const name = `goldbed-test-${randomUUID()}`;
    const definition = `/etc/schroot/chroot.d/${name}`;
    const define = (lines: readonly string[]): Promise<void> =>
      writeFile(definition, [`[${name}]`, 'description=of a test', 'root-users=root', ...lines, ''].join('\n'));
    afterAll(() => rm(definition, { force: true }));

    test('a chroot that is a directory', async () => {
      await define(['type=directory', `directory=${root.folder}`, 'union-type=overlay']);
      await imported(`schroot:${name}`);
    });

    test('a chroot that is a tar file', async () => {
      const file = path.join(folder, 'chroot.tar.zst');
      await check(['/bin/tar', '--create', '--zstd', `--file=${file}`, `--directory=${root.folder}`, '.']);
      await define(['type=file', `file=${file}`]);
      await imported(`schroot:${name}`);
    });

    test('one that is not there, and one whose root is not there, are told in one line', async () => {
      await define(['type=loopback', `file=${path.join(folder, 'disk')}`, 'mount-options=-o ro']);
      await writeFile(path.join(folder, 'disk'), '');
      const loop = await goldbed.run('image', 'import', 'tiny', `schroot:${name}`);
      expect([loop.code, loop.stderr]).toEqual([
        64,
        expect.stringMatching(/^goldbed: the chroot .* type loopback.*\n$/),
      ]);
      const none = await goldbed.run('image', 'import', 'tiny', 'schroot:no-such');
      expect([none.code, none.stderr]).toEqual([
        64,
        expect.stringMatching(/^goldbed: schroot knows no chroot no-such .*\n$/),
      ]);
    });
  });
});
