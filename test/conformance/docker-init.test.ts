/** docker testbeds in which the image's own init runs (docker.init), unprivileged; and those in which none does. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import Docker from 'dockerode';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { check, run } from '../../src/exec/run.ts';
import { dockerUnavailable, startDockerDaemon, untilRemoved, type DockerDaemon } from './fixtures/docker-daemon.ts';
import { goldbedWithCopy, goldbedWithImage, smallImage, virtProgram, type Goldbed } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';
import { writeToy } from './fixtures/toy-package.ts';
import { Wire } from './vectors/describe-virt-server.ts';

const withInit = 'with-init';
const isolated = 'isolation-container';

describeWith('docker', dockerUnavailable(), 'docker with an init', () => {
  let daemon: DockerDaemon;
  let goldbed: Goldbed;

  beforeAll(async () => {
    daemon = await startDockerDaemon();
    goldbed = await goldbedWithImage(smallImage);
    await goldbedWithCopy(withInit);
    const wire = serve(withInit, 'overlay');
    expect(await wire.ask('open-golden')).toMatch(/^ok /);
    const script = 'apt-get -q update && apt-get -qy install --no-install-recommends systemd-sysv && apt-get clean';
    expect(await inside(wire, `(${script}) >/dev/null`)).toBe('');
    expect(await wire.ask('commit-golden')).toBe('ok');
    expect(await wire.quit()).toBe(0);
  });
  afterAll(async () => {
    await goldbed.run('image', 'rm', withInit);
    await daemon[Symbol.asyncDispose]();
  });

  const environment = (): Record<string, string> => ({
    GOLDBED_NODE: process.execPath,
    GOLDBED_STATE: goldbed.state,
    GOLDBED_DOCKER_SOCKET: daemon.socket,
    GOLDBED_DOCKER_NETWORK: 'host',
    GOLDBED_DOCKER_INIT: '1',
  });
  const serve = (image = withInit, backend = 'docker'): Wire =>
    new Wire({ argv: [virtProgram, backend, image], env: environment(), revert: true });
  const capabilities = async (wire: Wire): Promise<string[]> => (await wire.ask('capabilities')).split(' ');
  const inside = async (wire: Wire, script: string): Promise<string> => {
    const { code, stdout, stderr } = await run([...(await wire.executeCommand()), '/bin/sh', '-c', script]);
    return code === 0 ? stdout.trim() : `exit ${code}: ${stdout}${stderr}`;
  };
  const containers = async (): Promise<string> => {
    const argv = ['docker', 'ps', '--all', '--quiet', '--no-trunc', '--filter', 'label=goldbed.session'];
    return (await check(argv, { env: daemon.env })).stdout.trim();
  };

  test('the init is the first process, has booted, and starts services; each session and revert boots anew', async () => {
    const wire = serve();
    expect(await capabilities(wire)).not.toContain(isolated); // it depends on the image, which is opened later
    expect(await wire.ask('open')).toMatch(/^ok /);
    expect(await capabilities(wire)).toEqual(expect.arrayContaining([isolated, 'suggested-normal-user=goldbed']));
    expect(await inside(wire, 'cat /proc/1/comm; systemctl is-system-running; id -un')).toBe('systemd\nrunning\nroot');
    const unit = '/run/systemd/system/toy.service';
    const service = `printf '[Service]\\nExecStart=/bin/sleep 1000\\n' >${unit} && systemctl start toy && systemctl is-active toy`;
    expect(await inside(wire, service)).toBe('active');
    expect(await wire.ask('revert')).toMatch(/^ok /);
    expect(await inside(wire, `test -e ${unit}; echo $?; systemctl is-system-running`)).toBe('1\nrunning');
    expect(await inside(wire, 'awk \'$2 == "/proc/sys" {print $4}\' /proc/mounts')).toMatch(/^ro,/); // unprivileged
    const id = await containers();
    const removed = untilRemoved(new Docker({ socketPath: daemon.socket }).getContainer(id));
    expect(await wire.ask('close')).toBe('ok');
    await removed;
    expect(await wire.quit()).toBe(0);
    expect(await containers()).toBe('');
  });

  test('kill -9 of the server ends the container', async () => {
    const wire = serve();
    expect(await wire.ask('open')).toMatch(/^ok /);
    const container = new Docker({ socketPath: daemon.socket }).getContainer(await containers());
    const removed = untilRemoved(container);
    wire.child.kill('SIGKILL');
    await removed;
    expect(await containers()).toBe('');
  });

  test('no init runs where the image has none, nor while an image is written', async () => {
    for (const [image, verb] of [
      [smallImage.name, 'open'],
      [withInit, 'open-golden'],
    ] as const) {
      const wire = serve(image);
      expect(await wire.ask(verb)).toMatch(/^ok /);
      expect(await capabilities(wire)).not.toContain(isolated);
      expect(await inside(wire, 'cat /proc/1/comm')).toBe('perl');
      expect(await wire.quit()).toBe(0);
    }
  });

  test('autopkgtest runs there what needs one', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'goldbed-init-'));
    try {
      const tree = await writeToy(folder, 'toy-isolated', { test: 'systemctl is-system-running' });
      const control = `Tests: smoke\nDepends:\nRestrictions: ${isolated}, needs-root\n`; // its package is not built
      await writeFile(path.join(tree, 'debian/tests/control'), control);
      const argv = ['autopkgtest', '-B', tree, '--', virtProgram, 'docker', withInit];
      const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: folder, LANG: 'C.UTF-8', ...environment() };
      const { code, stdout, stderr } = await run(argv, { env });
      expect(code, stdout + stderr).toBe(0);
      expect(stdout).toMatch(/^smoke +PASS$/m);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  test('an init that does not stay is told as that, and is not published', async () => {
    const wire = serve();
    expect(await wire.ask('open-golden')).toMatch(/^ok /);
    const script = String.raw`rm /sbin/init && printf '#!/bin/sh\nexit 3\n' >/sbin/init && chmod 755 /sbin/init`;
    expect(await inside(wire, script)).toBe('');
    expect(await wire.ask('commit-golden')).toBe('commit-failed');
    expect(await wire.quit()).toBe(0);
    expect(wire.said()).toContain('the container ended at once with status 3');
    expect(await containers()).toBe('');
  });
});
