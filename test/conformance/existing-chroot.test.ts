/** Chroots that the host's administrator has defined: opened as they are, never written, and the host is left as it was. */
import { existsSync, readdirSync } from 'node:fs';
import { cp, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { isExecutable } from '../../src/exec/executable.ts';
import { run } from '../../src/exec/run.ts';
import { decodeArgv } from '../../src/protocol/adt-virt/words.ts';
import { baseRoot, virtProgram } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';
import { smallRoot, type SmallRoot } from './fixtures/small-root.ts';
import { Wire, type ServerUnderTest } from './vectors/describe-virt-server.ts';

const notRoot = process.getuid?.() === 0 ? undefined : 'not root';
const missing = notRoot ?? (isExecutable('/usr/bin/schroot') ? undefined : 'apt-get install schroot');

describeWith('schroot', missing, 'a chroot of the administrator’s', () => {
  const name = 'goldbed-admin-test';
  const definition = `/etc/schroot/chroot.d/${name}`;
  let root: string;
  let state: SmallRoot; // any folder that is removed at the end
  beforeAll(async () => {
    root = await baseRoot();
  });
  beforeEach(async () => {
    state = await smallRoot();
  });
  afterEach(async () => {
    await rm(definition, { force: true });
    await state[Symbol.asyncDispose]();
  });

  const define = (...lines: string[]): Promise<void> =>
    writeFile(definition, [`[${name}]`, 'root-users=root', ...lines, ''].join('\n'));
  const server = (): ServerUnderTest => ({
    argv: [virtProgram, 'schroot', name],
    env: { GOLDBED_NODE: process.execPath, GOLDBED_STATE: path.join(state.folder, 'state') },
    revert: true,
  });
  const sh = async (wire: Wire, script: string): Promise<string> => {
    const auxverb = decodeArgv((await wire.ask('print-execute-command')).slice(3));
    return (await run([...auxverb, '/bin/sh', '-c', script])).stdout;
  };

  test('with schroot’s default profile, the host’s /tmp is the testbed’s: nothing stays there', async () => {
    await define('type=directory', `directory=${root}`, 'union-type=overlay', 'profile=default');
    const wire = new Wire(server());
    const capabilities = await wire.ask('capabilities');
    expect(capabilities).toBe('ok root-on-testbed revert'); // not revert-full-system: /tmp and /home are the host's
    const opened = await wire.ask('open');
    const scratch = opened.slice(3);
    expect(await wire.ask('capabilities')).toBe(capabilities);
    expect(await sh(wire, `touch /root/mark ${scratch}/mark; stat -c '%a %U' ${scratch}`)).toBe('755 root\n');
    expect(existsSync(`${scratch}/mark`)).toBe(true); // on the host
    expect(await wire.ask('revert')).toBe(opened);
    expect(await sh(wire, `ls -A /root/mark ${scratch}`)).not.toContain('mark');
    expect(await wire.ask('close')).toBe('ok');
    expect(existsSync(scratch)).toBe(false);
    expect(await wire.ask('open')).toBe(opened);
    expect(await wire.quit()).toBe(0);
    expect(existsSync(scratch)).toBe(false);
    expect(existsSync(path.join(root, 'root/mark'))).toBe(false);
  });

  test('whose changes would stay in it is refused, in one line, before the banner', async () => {
    const copy = path.join(state.folder, 'copy');
    await cp(path.join(state.folder, 'bin'), path.join(copy, 'bin'), { recursive: true });
    for (const lines of [['type=directory'], ['type=directory', 'union-type=none'], ['type=plain']]) {
      await define(...lines, `directory=${copy}`, 'profile=minimal');
      const { argv, env } = server();
      const ran = await run(argv, { env: { ...env }, input: 'open\nquit\n' });
      expect([ran.code, ran.stdout]).toEqual([1, '']);
      expect(ran.stderr).toBe(
        `goldbed-virt: ${name}: changes to this chroot would stay in it: give it a union-type, or make it an image: ` +
          `goldbed image import NAME ${copy}\n`,
      );
    }
  });

  test('without /proc it is refused, and its session ended', async () => {
    const fstab = path.join(state.folder, 'fstab');
    await writeFile(fstab, '');
    const profile = `setup.fstab=${path.relative('/etc/schroot', fstab)}`; // schroot puts its own folder before it
    await define('type=directory', `directory=${root}`, 'union-type=overlay', profile);
    const { argv, env } = server();
    const ran = await run(argv, { env: { ...env }, input: 'open\n' });
    expect([ran.code, ran.stdout]).toEqual([16, 'ok\n']);
    expect(ran.stderr).toContain(`${name} has no /proc: its profile must mount it`);
    expect(readdirSync('/var/lib/schroot/session').filter((entry) => entry.startsWith('goldbed-'))).toEqual([]);
  });

  test('a name that schroot does not know either is an unknown image', async () => {
    const { argv, env } = server();
    const ran = await run(argv, { env: { ...env }, input: 'quit\n' });
    expect([ran.code, ran.stdout]).toEqual([1, '']);
    expect(ran.stderr.trim().split('\n')).toHaveLength(1);
  });
});
