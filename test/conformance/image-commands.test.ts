/** What people do with images besides refreshing them, by the command line, on real ones. */
import { existsSync, readdirSync } from 'node:fs';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { run } from '../../src/exec/run.ts';
import { decodeArgv } from '../../src/protocol/adt-virt/words.ts';
import { testCache } from './fixtures/base-image.ts';
import {
  Goldbed,
  goldbedWithImage,
  smallImage,
  takeImage,
  virtProgram,
  wholeLayer,
  type Ran,
} from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';
import { Wire, type ServerUnderTest } from './vectors/describe-virt-server.ts';

const unavailable = await overlayBackend(stateAt('/nonexistent')).unavailable();
const copy = 'copied';

describeWith('overlay', unavailable, 'image commands', () => {
  let goldbed: Goldbed;
  let folder: string;
  const image = async (...args: string[]): Promise<Ran> => {
    const ran = await goldbed.run('image', ...args);
    return ran;
  };
  const ok = async (...args: string[]): Promise<string> => {
    const ran = await image(...args);
    expect(ran.code, ran.stderr).toBe(0);
    return ran.stdout;
  };
  const server = (name: string): ServerUnderTest => ({
    argv: [virtProgram, 'overlay', name],
    env: { GOLDBED_NODE: process.execPath, GOLDBED_STATE: goldbed.state },
    revert: true,
  });
  const inSession = async (under: ServerUnderTest, verbs: readonly string[], script: string): Promise<string> => {
    const wire = new Wire(under);
    expect(await wire.ask(verbs[0] ?? 'open')).toMatch(/^ok \//);
    const auxverb = decodeArgv((await wire.ask('print-execute-command')).slice(3));
    const argv = [...auxverb, '/bin/sh', '-c', script];
    const { stdout } = await run(under.as?.(argv) ?? argv, { env: { PATH: '/usr/bin:/bin', ...under.env } });
    for (const verb of verbs.slice(1)) expect(await wire.ask(verb)).toBe('ok');
    await wire.quit();
    return stdout;
  };

  beforeAll(async () => {
    goldbed = await goldbedWithImage(smallImage);
  });
  beforeEach(async () => {
    folder = await mkdtemp(path.join(testCache(), 'images-'));
    await chmod(folder, 0o755);
  });
  afterEach(async () => {
    await image('rm', copy);
    await rm(folder, { recursive: true, force: true });
  });

  test('exported, imported again: the same packages, the same files, another image', async () => {
    const file = path.join(folder, 'small.tar');
    expect(await ok('export', smallImage.name, '-o', file)).toContain(`-> ${file}`);
    expect(readdirSync(folder)).toEqual(['small.tar']);
    await ok('import', copy, file);
    const look = 'dpkg-query -W; stat -c "%n %U:%G %a %s" /etc/shadow /usr/bin/passwd /bin/true /var/mail';
    const copied = await inSession(server(copy), ['open', 'close'], look);
    expect(copied).toContain('/etc/shadow root:shadow 640');
    expect(copied).toBe(await inSession(server(smallImage.name), ['open', 'close'], look));
    const [one, other] = await Promise.all([ok('show', copy, '--json'), ok('show', smallImage.name, '--json')]);
    const heads = [one, other].map((text) => (JSON.parse(text) as { image: { head: Record<string, any> } }).image.head); // oxlint-disable-line typescript/no-explicit-any -- compared below
    expect(heads[0]?.['strategy']).toBe('import');
    expect([heads[0]?.['packages'], heads[0]?.['recipe'].suite]).toEqual([
      heads[1]?.['packages'],
      heads[1]?.['recipe'].suite,
    ]);
  });

  test('diff, history, rollback, verify, gc: the life of an image', async () => {
    await ok('import', copy, await wholeLayer(goldbed.state, smallImage.name));
    await inSession(
      server(copy),
      ['open-golden', 'commit-golden'],
      "sed -i '/^Package: gpgv$/,/^$/s/^Version: .*/Version: 0.1/' /var/lib/dpkg/status",
    );
    const sizes = String.raw`(\S+) -> \1 \(\+0B\)`;
    expect(await ok('diff', copy)).toMatch(
      new RegExp(String.raw`^copied@1 -> copied@2  \+0 -0 ~1  ${sizes}\n~  gpgv  \S+ -> 0\.1\n$`),
    );
    expect(await ok('history', copy)).toMatch(/\* 2 +1 .*upgrade +\+0 -0 ~1[^]*  1 +- .*import/);
    expect(await ok('rollback', copy)).toMatch(/^copied@1 /);
    expect(await inSession(server(copy), ['open', 'close'], 'dpkg-query -W gpgv')).not.toContain('0.1\n');
    expect(await ok('verify', copy)).toMatch(/^copied@1 is sha256:/);
    expect(await ok('gc', copy, '--keep', '1')).toBe('copied: removed none\n'); // 2 is the newest, 1 is current
    await ok('rollback', copy, '2');
    await writeFile(path.join(goldbed.state, 'images', copy, 'generations/2/layer/var/lib/dpkg/status'), 'x');
    const damaged = await image('verify', copy);
    expect([damaged.code, damaged.stdout]).toEqual([
      1,
      expect.stringMatching(/^copied@2 is damaged: the layers of generations 2 /),
    ]);
    const nothing = await image('rollback', copy, '7');
    expect([nothing.code, nothing.stderr]).toEqual([64, 'goldbed: copied has no generation 7 (it has 1, 2)\n']);
  });

  test('replaced by a fresh bootstrap; drift: what an image has that a fresh one has not, and the reverse', async () => {
    // an older version, one that a fresh one has not, and one that only a fresh one has
    const change = [
      "sed -i '/^Package: zlib1g$/,/^$/s/^Version: .*/Version: 0.1/' /var/lib/dpkg/status",
      'mkdir -p /tmp/stray/DEBIAN',
      String.raw`printf 'Package: stray\nVersion: 3\nArchitecture: all\nMaintainer: a\nDescription: d\n' >/tmp/stray/DEBIAN/control`,
      'dpkg-deb --root-owner-group --build /tmp/stray && dpkg --install /tmp/stray.deb && rm -r /tmp/stray /tmp/stray.deb',
      'dpkg --purge --force-remove-essential --force-depends hostname',
    ].join(' && ');
    const { name } = smallImage;
    const own = new Goldbed(path.join(folder, 'state'));
    await takeImage(own, smallImage); // perhaps an old one
    // without apt: half as much to bootstrap, twice
    const replaced = await own.run('image', 'replace', name, '--variant', 'essential');
    expect([replaced.code, replaced.stdout], replaced.stderr).toEqual([0, expect.stringMatching(/^small@2 /)]);
    const env = { GOLDBED_NODE: process.execPath, GOLDBED_STATE: own.state };
    const writer = { argv: [virtProgram, 'overlay', name], env, revert: true };
    await inSession(writer, ['open-golden', 'commit-golden'], change);
    const differs = await own.run('image', 'drift', name, '--json');
    expect(differs.code).toBe(1);
    expect(JSON.parse(differs.stdout)).toMatchObject({
      ...{ image: name, generation: 3, differs: true },
      added: [{ name: 'hostname' }],
      removed: [{ name: 'stray', version: '3', arch: 'all' }],
      changed: [{ name: 'zlib1g', from: '0.1' }],
    });
    expect(readdirSync(path.join(own.state, 'sessions')).filter((each) => each.startsWith('overlay-'))).toEqual([]);
  });

  test('an image in use is not removed; bad words are one line', async () => {
    await ok('import', copy, await wholeLayer(goldbed.state, smallImage.name));
    const reader = new Wire(server(copy));
    expect(await reader.ask('open')).toMatch(/^ok /);
    expect(await ok('show', copy)).toMatch(
      /\n {2}GEN +IN USE BY +WHOSE +SINCE\n {2}1 +goldbed-virt +\S+ \(process \d+\) +\d+ s\n/,
    );
    const refused = await image('rm', copy);
    expect([refused.code, refused.stderr]).toEqual([64, 'goldbed: copied is in use: goldbed-virt\n']);
    expect(await reader.quit()).toBe(0);
    expect(await ok('rm', copy)).toBe('copied: removed\n');
    expect(existsSync(path.join(goldbed.state, 'images', copy))).toBe(false);
    for (const [args, complaint] of [
      [['import', copy, '/etc'], '/etc: not the root of a Debian system: dpkg is not installed in it'],
      [['import', copy, '/no/such'], '/no/such: no such file or directory'],
      [
        ['export', smallImage.name, '-o', 'x.zip'],
        'x.zip: expected a name that ends in .tar, .tar.gz, .tar.xz, .tar.zst',
      ],
      [['rollback', smallImage.name, 'x'], 'x: expected the number of a generation'],
      [['rm', 'no-such'], 'there is no image no-such'],
    ] as const) {
      const ran = await image(...args);
      expect(ran.code).toBe(64);
      expect(ran.stderr.trim().split('\n').at(-1)).toContain(complaint);
    }
  });
});
