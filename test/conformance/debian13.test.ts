/** Both generations of clients and servers: those of Debian 13 meet ours. The rest of the suite runs the host's own. */
import { existsSync } from 'node:fs';
import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { stateAt } from '../../src/config/state.ts';
import { check, run, type Finished } from '../../src/exec/run.ts';
import { layoutOf } from '../../src/golden/layout.ts';
import { readHead, readManifest } from '../../src/golden/store.ts';
import { Session, startChildServer } from '../../src/protocol/adt-virt/index.ts';
import type { Channel } from '../../src/protocol/testbed.ts';
import {
  debian13Env,
  debian13Image,
  debian13State,
  debian13Unavailable,
  inDebian13,
  leftInDebian13,
} from './fixtures/debian13.ts';
import { Goldbed, program, virtProgram } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';
import { writeToy } from './fixtures/toy-package.ts';
import { describeVirtServer } from './vectors/describe-virt-server.ts';

const stockNull = '/usr/bin/autopkgtest-virt-null';
const overlay = ['overlay', debian13Image];

describeWith('debian13', await debian13Unavailable(), 'Debian 13', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'goldbed-debian13-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));
  afterAll(() => {
    expect(leftInDebian13()).toEqual([]);
  });

  const inside = (...argv: string[]): Promise<Finished> => run(inDebian13(argv), { env: debian13Env });
  const start = (argv: readonly string[]): Promise<Channel> =>
    startChildServer(inDebian13(argv), { env: debian13Env, log: () => {} });
  const connect = async (argv: readonly string[]): Promise<Session> =>
    Session.start(await start(argv), { backend: 'debian13' });
  const at = (name: string): string => path.join(folder, name);

  test('it is what it says', async () => {
    const { stdout } = await inside('/usr/bin/dpkg-query', '-W', 'autopkgtest', 'sbuild');
    expect(stdout).toMatch(/^autopkgtest\t5\.4\d\S*\nsbuild\t0\.89\.\S+\n$/);
  });

  describeVirtServer(
    'autopkgtest-virt-null 5.49',
    () => ({ argv: inDebian13([stockNull]), as: inDebian13, revert: false, stock: true }),
    false,
    '5.49',
  );

  const scratchOwners: [string, string[], string][] = [
    ['stock null', [stockNull], 'root'],
    ['our null', [virtProgram, 'null'], 'root'],
    ['our overlay', [virtProgram, ...overlay], 'goldbed'], // to whom the client of 5.49 would give it
  ];
  test.each(scratchOwners)(
    '%s: nobody else may write to the scratch directory where nothing isolates the testbed',
    async (...row) => {
      const [name, argv, owner] = row;
      await using session = await connect(argv);
      const scratch = await session.open();
      const look = [...(await session.executeCommand()), '/usr/bin/stat', '--format=%a %U', scratch];
      expect((await inside(...look)).stdout).toBe(`755 ${owner}\n`);
      const onHost = (await session.capabilities()).some((word) => word.startsWith('downtmp-host='));
      expect(onHost).toBe(name.endsWith('null'));
    },
  );

  describe('our client on the stock server', () => {
    test('a whole session', async () => {
      const channel = await start([stockNull]);
      await using session = await Session.start(channel, { backend: 'null' });
      const scratch = await session.open();
      // it says downtmp-host twice, and one more ok each time
      for (let time = 0; time < 3; time += 1)
        expect(await session.capabilities()).toEqual(['root-on-testbed', `downtmp-host=${scratch}`]);
      await writeFile(at('down'), 'content', { mode: 0o705 });
      await session.copyDown(at('down'), `${scratch}/a b`);
      const prefix = await session.executeCommand();
      expect((await inside(...prefix, '/bin/cat', `${scratch}/a b`)).stdout).toBe('content');
      await session.copyUp(`${scratch}/a b`, at('up'));
      expect((await stat(at('up'))).mode & 0o777).toBe(0o705);
      await session.close();
      expect(existsSync(scratch)).toBe(false);
      expect(await session.open()).toBe(scratch);
      await session.close();
      await session.quit();
      expect(await channel.exited).toEqual({ kind: 'code', code: 0 });
    });

    test('a copy that it dies of is an error that says so', async () => {
      await using session = await connect([stockNull]);
      const scratch = await session.open();
      const copied = session.copyUp('/no/such/file', at('up'));
      await expect(copied).rejects.toThrow(/copyup: the server ended with status 12 .*No such file/);
      expect(existsSync(scratch)).toBe(false);
    });

    test('a client that leaves: it cleans up and ends with 12', async () => {
      const channel = await start([stockNull]);
      await using session = await Session.start(channel, { backend: 'null' });
      const scratch = await session.open();
      channel.toServer.end();
      expect(await channel.exited).toEqual({ kind: 'code', code: 12 });
      expect(channel.lastWords?.()).toContain('end of file - caller quit?');
      expect(existsSync(scratch)).toBe(false);
    });
  });

  describe.each([['null'], overlay])('the stock autopkgtest on our server: %s', (...server) => {
    const autopkgtest = async (tree: string): Promise<{ code: number; log: string; summary: string }> => {
      const argv = [`--output-dir=${at('out')}`, tree, '--', virtProgram, ...server];
      const { code, stderr } = await inside('/usr/bin/autopkgtest', ...argv);
      const [log = '', summary = ''] = await Promise.all(
        ['out/log', 'out/summary'].map((name) => readFile(at(name), 'utf8').catch(() => stderr)),
      );
      return { code, log, summary };
    };

    test('builds, installs and tests a package; artifacts come back', async () => {
      const script = 'grep -q content /usr/share/toy-good/file && echo seen >$AUTOPKGTEST_ARTIFACTS/mark';
      const { code, log, summary } = await autopkgtest(await writeToy(folder, 'toy-good', { test: script }));
      expect(code, log).toBe(0);
      expect(summary).toBe('smoke                PASS\n');
      expect(log).toContain('version 5.4');
      expect(await readFile(at('out/artifacts/mark'), 'utf8')).toBe('seen\n');
    });

    test('a failing test is 4', async () => {
      const { code, log, summary } = await autopkgtest(await writeToy(folder, 'toy-bad', { test: 'exit 1' }));
      expect(code, log).toBe(4);
      expect(summary).toMatch(/^smoke +FAIL non-zero exit status 1\n$/);
    });

    test('a test that breaks the testbed runs where it can be reverted, and is', async () => {
      const toy = { test: 'rm -r /var/lib/dpkg', restrictions: 'needs-root, breaks-testbed' };
      const tree = await writeToy(folder, 'toy-breaks', toy);
      await appendFile(
        path.join(tree, 'debian/tests/control'),
        '\nTest-Command: dpkg -s toy-breaks\nDepends: toy-breaks\n',
      );
      const { code, log, summary } = await autopkgtest(tree);
      const reverts = server[0] === 'overlay';
      expect(code, log).toBe(reverts ? 0 : 2);
      expect(summary).toMatch(reverts ? /^smoke +PASS\ncommand1 +PASS\n$/ : /^smoke +SKIP .*\ncommand1 +PASS\n$/);
    });
  });

  describe('the stock sbuild-update', () => {
    const image = 'debian13-bridge';
    const head = () => readHead(stateAt(debian13State), image);
    const host = new Goldbed(debian13State);

    beforeAll(async () => {
      await host.run('image', 'rm', image); // of a run that was killed
      const layer = path.join(debian13State, 'images', debian13Image, 'generations/1/layer');
      const made = await host.run('image', 'import', image, layer);
      expect(made.code, made.stderr).toBe(0);
    });
    afterAll(async () => {
      expect((await host.run('image', 'rm', image)).code).toBe(0);
    });

    /** Publishes a generation in which a package is out of date, and apt obeys these lines of configuration. */
    const plant = async (configuration: string): Promise<number> => {
      await using session = await connect([virtProgram, 'overlay', image]);
      await session.openGolden();
      const script =
        `sed -i '/^Package: hostname$/,/^$/s/^Version: .*/Version: 0.1/' /var/lib/dpkg/status; ` +
        `printf '%s' "$1" >/etc/apt/apt.conf.d/99planted`;
      const planted = await inside(...(await session.executeCommand()), '/bin/sh', '-ec', script, 'sh', configuration);
      expect(planted).toMatchObject({ code: 0 });
      await session.commitGolden();
      await session.quit();
      return (await head()).generation;
    };
    const update = (): Promise<Finished> => {
      const update13 = ['sbuild-update', '--chroot-mode=autopkgtest', '-udcar', 'unstable'];
      return inside(program, 'golden-update', image, '--', ...update13);
    };

    test('a good upgrade is published', async () => {
      const before = await plant('');
      const updated = await update();
      expect(updated.code, updated.stderr).toBe(0);
      expect((await head()).generation).toBe(before + 1);
      const manifest = await readManifest(layoutOf(stateAt(debian13State), image), before + 1);
      expect(manifest).not.toMatch(/^hostname\t0\.1\t/m);
    });

    test('a failing dist-upgrade is discarded, and told', async () => {
      const before = await plant('DPkg::Pre-Invoke {"echo planted; exit 7";};\n');
      const updated = await update();
      expect(updated.stdout + updated.stderr).toContain('planted');
      expect([updated.code, (await head()).generation]).toEqual([1, before]);
      expect(updated.stderr).toMatch(/nothing was published: a command failed/);
    });
  });

  describe('the stock sbuild on our overlay', () => {
    const sbuild = async (name: string, build: string): Promise<Finished> => {
      await writeToy(folder, name, { build });
      await check(['/usr/bin/dpkg-source', '--build', `${name}-1.0`], { cwd: folder });
      await mkdir(at('out'));
      const argv = ['--dist=trixie', `--build-dir=${at('out')}`, '--no-run-lintian', at(`${name}_1.0.dsc`)];
      const quick = ['--no-apt-update', '--no-apt-upgrade', '--no-apt-distupgrade'];
      const virt = [`--autopkgtest-virt-server=${virtProgram}`, `--autopkgtest-virt-server-opts=${overlay.join(' ')}`];
      return inside('/usr/bin/sbuild', '--chroot-mode=autopkgtest', ...virt, ...quick, ...argv);
    };
    const log = async (): Promise<string> => {
      const name = (await readdir(at('out'))).find((file) => file.endsWith('Z.build')) ?? 'no log';
      return readFile(at(`out/${name}`), 'utf8');
    };

    test('builds a package', async () => {
      const built = await sbuild('toy-built', 'test "$(. /etc/os-release && echo $VERSION_ID)" = 13');
      expect(built.code, built.stderr).toBe(0);
      expect(await log()).toMatch(/^sbuild \(Debian sbuild\) 0\.89[^]*^Status: successful$/m);
      const packed = await check(['/usr/bin/dpkg-deb', '--contents', at('out/toy-built_1.0_all.deb')]);
      expect(packed.stdout).toContain('./usr/share/toy-built/file');
    });

    test('a failing build is 2', async () => {
      const built = await sbuild('toy-unbuilt', 'exit 1');
      expect(built.code, built.stderr).toBe(2);
      expect(await log()).toMatch(/^Status: attempted$/m);
    });
  });
});
