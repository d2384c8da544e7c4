/** The qemu backend against all that a server must do, and what only a machine can: a reboot. Up to an hour without KVM. */
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { qemuUnavailable } from '../../src/backends/qemu/emulator.ts';
import { run } from '../../src/exec/run.ts';
import { decodeArgv } from '../../src/protocol/adt-virt/words.ts';
import { goldbedWithImage, virtProgram, type Goldbed } from '../conformance/fixtures/goldbed.ts';
import { buildMachine, goldbedWithMachine, qemuServer } from '../conformance/fixtures/machine-image.ts';
import { describeWith } from '../conformance/fixtures/requirements.ts';
import { buildToy, writeVerdicts } from '../conformance/fixtures/stock-clients.ts';
import { writeToy } from '../conformance/fixtures/toy-package.ts';
import { describeGoldenServer } from '../conformance/vectors/describe-golden-server.ts';
import { describeVirtServer, Wire, type ServerUnderTest } from '../conformance/vectors/describe-virt-server.ts';

describeWith('qemu', qemuUnavailable(), 'qemu', () => {
  let goldbed: Goldbed;
  beforeAll(async () => {
    goldbed = await goldbedWithMachine();
  });
  const server = (): ServerUnderTest => qemuServer(goldbed);
  const opened = async (verb: string): Promise<{ wire: Wire; scratch: string; auxverb: readonly string[] }> => {
    const wire = new Wire(server());
    const scratch = (await wire.ask(verb)).slice(3);
    return { wire, scratch, auxverb: decodeArgv((await wire.ask('print-execute-command')).slice(3)) };
  };
  const sh = async (auxverb: readonly string[], script: string): Promise<string> =>
    (await run([...auxverb, '/bin/sh', '-c', script])).stdout;

  test('reboot: another boot of the same machine, with its disk and the scratch directory', async () => {
    const { wire, scratch, auxverb } = await opened('open');
    const look = `cat ${scratch}/kept /root/kept /etc/machine-id; test -e /run/gone && echo still there`;
    await sh(auxverb, `echo a >${scratch}/kept; echo b >/root/kept; touch /run/gone`);
    const id = await sh(auxverb, 'cat /etc/machine-id');
    const boot = await sh(auxverb, 'cat /proc/sys/kernel/random/boot_id');
    expect(await wire.ask('reboot')).toBe('ok');
    expect(await sh(auxverb, look)).toBe(`a\nb\n${id}`);
    expect(await sh(auxverb, 'cat /proc/sys/kernel/random/boot_id')).not.toBe(boot);
    expect(await sh(auxverb, 'ls /var/cache')).not.toContain('goldbed');
    expect(await wire.quit()).toBe(0);
  });

  test('autopkgtest: tests that reboot, by themselves and by the server, pass', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'goldbed-reboot-'));
    try {
      const tree = await writeToy(folder, 'toy-reboots', {
        test: rebootTest,
        restrictions: 'needs-root, needs-reboot',
      });
      await writeFile(path.join(tree, 'debian/tests/control'), controlFile);
      const output = path.join(folder, 'out');
      const { argv, env = {} } = server();
      const ran = await run(['autopkgtest', `--output-dir=${output}`, '-B', tree, '--', ...argv], {
        env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: folder, LANG: 'C.UTF-8', ...env },
      });
      expect(ran.code, ran.stdout + ran.stderr).toBe(0);
      expect((await readFile(path.join(output, 'summary'), 'utf8')).trim()).toMatch(/^smoke +PASS$/);
      expect(await readFile(path.join(output, 'smoke-stdout'), 'utf8')).toBe('first\nsecond\nthird\n');
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  test('sbuild builds a package, and autopkgtest tells what passes, fails and is skipped', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'goldbed-clients-'));
    try {
      const { state } = await goldbedWithImage(buildMachine);
      const env = {
        ...{ PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: folder, LANG: 'C.UTF-8' },
        ...{ GOLDBED_NODE: process.execPath, GOLDBED_STATE: state },
      };
      const more = ['--no-apt-update', '--build-dep-resolver=null']; // minutes, and nothing of qemu
      const built = await buildToy({ folder, state, image: buildMachine.name, backend: 'qemu', env, more });
      expect(built.code, built.stdout.slice(-3000) + built.stderr).toBe(0);
      expect(existsSync(path.join(folder, 'toy-stock_1.0_all.deb'))).toBe(true);
      const tree = await writeToy(folder, 'toy-tests');
      await writeVerdicts(tree);
      const output = path.join(folder, 'out');
      const onMachine = ['--', virtProgram, 'qemu', buildMachine.name];
      const tested = await run(['autopkgtest', `--output-dir=${output}`, '-B', tree, ...onMachine], { env });
      expect(tested.code, tested.stderr).toBe(6); // at least one failed, at least one was skipped: autopkgtest(1)
      const summary = (await readFile(path.join(output, 'summary'), 'utf8')).split('\n');
      expect(summary.map((line) => line.trim().split(/ +/).slice(0, 2)).filter(([name]) => name !== '')).toEqual([
        ['passes', 'PASS'],
        ['fails', 'FAIL'],
        ['skips', 'SKIP'],
        ['reboots', 'PASS'], // a machine can
        ['breaks', 'PASS'],
      ]);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  test('kill -9 of the server leaves no machine; the next one removes its folder', async () => {
    const { wire, auxverb } = await opened('open');
    const folder = path.dirname(auxverb.find((word) => word.endsWith('.sock')) ?? '/');
    const name = path.basename(folder).replace('qemu-', 'goldbed-');
    const [machine] = machines(name);
    expect(machine).toBeDefined();
    const gone = run(['/usr/bin/tail', `--pid=${machine}`, '--follow', '/dev/null']);
    const ended = once(wire.child, 'exit');
    wire.child.kill('SIGKILL');
    await Promise.all([ended, gone]);
    expect(machines(name)).toEqual([]);
    expect((await run([...auxverb, 'true'])).code).toBe(254);
    const next = new Wire(server());
    expect(await next.ask('capabilities')).toMatch(/^ok/);
    expect(await next.quit()).toBe(0);
    expect(existsSync(folder)).toBe(false);
  });

  test('what is written through qemu is read through overlay, and nothing of the machine is in it', async () => {
    const { wire, auxverb } = await opened('open-golden');
    const stamp = `stamp-${process.pid}-${Date.now()}`;
    await sh(auxverb, `echo ${stamp} >/root/from-qemu; rm -rf /usr/share/doc/dpkg`);
    expect(await wire.ask('commit-golden')).toBe('ok');
    expect(await wire.quit()).toBe(0);
    const [program = ''] = server().argv;
    const reader = new Wire({ ...server(), argv: [program, 'overlay', 'machine-image'] });
    expect(await reader.ask('open')).toMatch(/^ok /);
    const overlay = decodeArgv((await reader.ask('print-execute-command')).slice(3));
    const seen = await sh(
      overlay,
      'cat /root/from-qemu; ls -d /usr/share/doc/dpkg /var/log/journal/* /var/lib/systemd/random-seed',
    );
    expect(seen).toBe(`${stamp}\n`);
    expect(await reader.quit()).toBe(0);
  });

  describeVirtServer('goldbed-virt qemu', server, true, false, true);
  describeGoldenServer('goldbed-virt qemu', server);
});

/** Process numbers of the machine of a session. */
function machines(name: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith(`/usr/bin/qemu-system-x86_64\0-name\0${name}\0`);
    } catch {
      return false;
    }
  });
}

const controlFile = 'Tests: smoke\nDepends:\nRestrictions: needs-root, needs-reboot\n';

/** autopkgtest's two ways: the server reboots; the test does so itself, when the server has prepared for it. */
const rebootTest = `set -e
case "$AUTOPKGTEST_REBOOT_MARK" in
  '') echo first; echo disk >/root/kept; /tmp/autopkgtest-reboot one ;;
  one) echo second; test "$(cat /root/kept)" = disk; /tmp/autopkgtest-reboot-prepare two; systemctl reboot; sleep infinity ;;
  two) echo third; test "$(cat /root/kept)" = disk ;;
esac`;
