/** External servers from goldbed-virt's command line: in the help, as the program itself, and with the caller's environment. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { externalServer } from '../../src/backends/external.ts';
import { run } from '../../src/exec/run.ts';
import { virtProgram } from './fixtures/goldbed.ts';
import { describeVirtServer, type ServerUnderTest } from './vectors/describe-virt-server.ts';

describe('external', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'goldbed-external-'));
    await mkdir(path.join(folder, 'goldbed'));
    const external = {
      host: { server: [virtProgram, 'null'], suite: 'stable' },
      looks: { server: ['/bin/sh', '-c', 'env >&2; echo ok; read quit'], suite: 'stable' },
      absent: { server: ['autopkgtest-virt-nonesuch', 'x'], suite: 'stable' },
    };
    await writeFile(path.join(folder, 'goldbed/external.yaml'), JSON.stringify({ external })); // JSON is YAML
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  const env = (): Record<string, string> => ({ GOLDBED_NODE: process.execPath, XDG_CONFIG_HOME: folder, HOME: folder });
  const server = (name: string): ServerUnderTest => ({
    argv: [virtProgram, 'external', name],
    env: env(),
    revert: false,
  });

  // what it says is what the server says, so a server of ours must pass through it unchanged
  describeVirtServer('goldbed-virt external', () => server('host'), false);

  test('the help lists what is configured, and whether it is there', async () => {
    const { stdout } = await run([virtProgram, '--help'], { env: env() });
    expect(stdout).toContain('  goldbed-virt external NAME\n');
    expect(stdout).toContain(`        host: ${virtProgram} null (available)\n`);
    expect(stdout).toContain(
      'absent: autopkgtest-virt-nonesuch x (autopkgtest-virt-nonesuch is not an executable of this host)\n',
    );
  });

  test('one that is not configured, or not there, is one line and no banner', async () => {
    for (const [name, why] of [
      ['other', 'no external server other in the configuration (it has: host, looks, absent)'],
      ['absent', 'autopkgtest-virt-nonesuch is not an executable of this host'],
    ] as const) {
      const ran = await run(server(name).argv, { env: env() });
      expect(ran).toEqual({ code: 1, stdout: '', stderr: `goldbed-virt: ${why}\n` });
    }
  });

  test('it sees the environment of its caller, but not the address of the queue', async () => {
    const own = {
      XDG_RUNTIME_DIR: '/run/user/7',
      SSH_AUTH_SOCK: '/tmp/agent',
      GOLDBED_REDIS_URL: 'redis://:hush@bay0',
    };
    const ran = await run(server('looks').argv, { env: { ...env(), ...own }, input: 'quit\n' });
    expect(ran).toMatchObject({ code: 0, stdout: 'ok\n' });
    expect(ran.stderr).toContain('XDG_RUNTIME_DIR=/run/user/7\n');
    expect(ran.stderr).toContain('SSH_AUTH_SOCK=/tmp/agent\n');
    expect(ran.stderr).not.toContain('hush');
    const said: string[] = [];
    const program = externalServer(['/bin/sh', '-c', 'env >&2; echo ok; read quit'], own);
    const channel = await program.start((line) => said.push(line), new AbortController().signal);
    channel.toServer.end('quit\n');
    await channel.exited;
    expect(said).toContain('SSH_AUTH_SOCK=/tmp/agent');
    expect(said.join()).not.toContain('hush');
  });

  test('whoever was told to stop before it is started does not start it', async () => {
    const program = externalServer(['/bin/sh', '-c', 'touch "$0"', path.join(folder, 'started')], {});
    await expect(program.start(() => {}, AbortSignal.abort(new Error('cancelled')))).rejects.toThrow('cancelled');
    expect((await run(['/usr/bin/test', '-e', path.join(folder, 'started')])).code).toBe(1);
  });
});
