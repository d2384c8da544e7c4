/** The docker backend on a daemon of the test's own. */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import Docker from 'dockerode';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dockerBackend } from '../../src/backends/docker/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { check, run } from '../../src/exec/run.ts';
import { decodeArgv } from '../../src/protocol/adt-virt/words.ts';
import { dockerUnavailable, startDockerDaemon, untilRemoved, type DockerDaemon } from './fixtures/docker-daemon.ts';
import { hostSuite, testCache } from './fixtures/base-image.ts';
import { baseRoot, Goldbed, goldbedWithImage, layersOf, smallImage, virtProgram } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';
import { copiesWithoutPrograms } from './fixtures/straight-copies.ts';
import { describeGoldenServer } from './vectors/describe-golden-server.ts';
import { describeVirtServer, Wire, type ServerUnderTest } from './vectors/describe-virt-server.ts';

describeWith('docker', dockerUnavailable(), 'docker', () => {
  let daemon: DockerDaemon;
  let goldbed: Goldbed;
  beforeAll(async () => {
    daemon = await startDockerDaemon();
    goldbed = await goldbedWithImage(smallImage);
  });
  afterAll(() => daemon?.[Symbol.asyncDispose]());

  const server = (): ServerUnderTest => ({
    argv: [virtProgram, 'docker', smallImage.name],
    env: {
      GOLDBED_NODE: process.execPath,
      GOLDBED_STATE: goldbed.state,
      GOLDBED_GOLDEN_WAIT: '1',
      GOLDBED_DOCKER_SOCKET: daemon.socket,
      GOLDBED_DOCKER_NETWORK: 'host',
    },
    revert: true,
  });
  const docker = async (...args: string[]): Promise<string> =>
    (await check(['docker', ...args], { env: daemon.env })).stdout.trim();
  // ours: the stock server leaves some of its own
  const list = ['ps', '--quiet', '--no-trunc', '--filter', 'label=goldbed.session'];
  const containers = (): Promise<string> => docker(...list, '--all');
  const client = (): Docker => new Docker({ socketPath: daemon.socket });
  const opened = async (): Promise<{ wire: Wire; auxverb: readonly string[] }> => {
    const wire = new Wire(server());
    expect(await wire.ask('open')).toMatch(/^ok /);
    return { wire, auxverb: decodeArgv((await wire.ask('print-execute-command')).slice(3)) };
  };

  describeVirtServer('goldbed-virt docker', server, true);
  describeGoldenServer('goldbed-virt docker', server);

  test('a single file goes straight', () => copiesWithoutPrograms(server()));

  test('a command is what `docker exec` would make of it: user, capabilities, seccomp, cgroup, namespaces', async () => {
    const { wire, auxverb } = await opened();
    const look = `id; umask; pwd; grep -E '^(Cap|Seccomp|NoNewPrivs|Groups)' /proc/self/status; cat /proc/self/cgroup
      readlink /proc/self/ns/pid /proc/self/ns/mnt /proc/self/ns/net; env | grep -v -E '^(_|PWD|OLDPWD|SHLVL)=' | sort`;
    const ours = await run([...auxverb, '/bin/sh', '-c', look]);
    const theirs = await docker('exec', await containers(), '/bin/sh', '-c', look);
    expect(ours).toMatchObject({ code: 0, stdout: `${theirs}\n` });
    expect(theirs).toContain('Seccomp:\t2');
    expect(await wire.quit()).toBe(0);
  });

  test('status, signals, big input and output', async () => {
    const { wire, auxverb } = await opened();
    const codes = [];
    for (const script of ['exit 0', 'exit 77', 'exit 255', 'kill -9 $$'])
      codes.push((await run([...auxverb, '/bin/sh', '-c', script])).code);
    expect([...codes, (await run([...auxverb, 'no-such-program'])).code]).toEqual([0, 77, 253, 137, 127]);
    const input = Buffer.alloc(3_000_000, 'x');
    expect((await run([...auxverb, 'sha256sum'], { input })).stdout).toBe((await run(['sha256sum'], { input })).stdout);
    const stop = new AbortController();
    const slept = run([...auxverb, '/bin/sh', '-c', 'trap "exit 3" TERM; echo up; while :; do sleep 0.1; done'], {
      signal: stop.signal,
      onOutput: () => stop.abort(new Error('heard')),
    });
    await expect(slept).rejects.toThrow('heard');
    const left = await run([...auxverb, '/bin/sh', '-c', 'cat /proc/[0-9]*/cmdline | tr "\\0" " "']);
    expect(left.stdout).not.toContain('trap'); // the signal reached it in there
    const many = await Promise.all([...Array(20).keys()].map((n) => run([...auxverb, '/bin/sh', '-c', `echo ${n}`])));
    expect(many.map(({ stdout }) => Number(stdout))).toEqual([...Array(20).keys()]);
    expect(await wire.quit()).toBe(0);
  });

  test('a file that is copied down cannot be written to from inside, and only we reach the agent', async () => {
    const { wire, auxverb } = await opened();
    const folder = await mkdtemp(path.join(testCache(), 'open-'));
    const file = path.join(folder, 'script');
    await writeFile(file, 'unharmed');
    const spoil = 'echo changed >/proc/self/fd/0; readlink /proc/self/fd/0';
    const redirected = ['/bin/sh', '-c', 'exec "$@" <"$0"', file, ...auxverb, '/bin/sh', '-c', spoil];
    expect(await run(redirected)).toMatchObject({ code: 0, stdout: expect.stringMatching(/^pipe:/) as string });
    expect(await readFile(file, 'utf8')).toBe('unharmed');
    const look = 'stat --format="%a %u" /dev/goldbed /dev/goldbed/run.sock; stat --format=%t:%T /dev/null';
    const outside = [
      '/bin/sh',
      '-c',
      '"$@" >/dev/null </dev/null',
      'sh',
      ...auxverb,
      'chmod',
      '600',
      '/proc/self/fd/0',
    ];
    expect(await run(outside)).toMatchObject({ code: 0 });
    expect((await stat('/dev/null')).mode & 0o777).toBe(0o666); // not the host's own
    expect((await run([...auxverb, '/bin/sh', '-c', look])).stdout).toBe('755 0\n600 0\n1:3\n');
    // nor any user of the container that should have our id: even its root is not heard
    const knock =
      'socket S, 1, 1, 0; connect S, pack "S Z*", 1, "/dev/goldbed/run.sock" or die; print sysread S, $_, 1';
    expect((await run([...auxverb, 'perl', '-e', knock])).stdout).toBe('0');
    expect(await wire.quit()).toBe(0);
    await rm(folder, { recursive: true });
  });

  test('nothing of how we reach a container becomes part of an image', async () => {
    const layers = await layersOf(goldbed.state, smallImage.name);
    const having = (name: string): string[] => layers.filter((layer) => existsSync(path.join(layer, name)));
    expect(having('root/mark')).not.toEqual([]); // written through docker, above
    expect(having('dev/goldbed')).toEqual([]);
  });

  test('close ends its processes; nothing is left in the daemon; a late command is refused', async () => {
    const { wire, auxverb } = await opened();
    const removed = untilRemoved(client().getContainer(await containers()));
    await run([...auxverb, '/bin/sh', '-c', 'setsid sleep 1000 >/dev/null 2>&1 &']);
    expect(await wire.ask('close')).toBe('ok');
    expect((await run([...auxverb, 'true'])).code).toBe(254);
    expect(await docker(...list)).toBe('');
    await removed; // it has begun when close answers, and needs nobody
    expect(await wire.quit()).toBe(0);
    expect(await containers()).toBe('');
  });

  test('the path of the state folder may be longer than the address of a socket', async () => {
    const state = path.join(await mkdtemp(path.join(testCache(), 'long-')), 'x'.repeat(120));
    await mkdir(state);
    await symlink(path.join(goldbed.state, 'images'), path.join(state, 'images'));
    const wire = new Wire({ ...server(), env: { ...server().env, GOLDBED_STATE: state } });
    expect(await wire.ask('open')).toMatch(/^ok /);
    const auxverb = decodeArgv((await wire.ask('print-execute-command')).slice(3));
    expect((await run([...auxverb, 'true'])).code).toBe(0);
    expect(await wire.quit()).toBe(0);
    await rm(path.dirname(state), { recursive: true });
  });

  test('kill -9 of the server ends the container', async () => {
    const { wire, auxverb } = await opened();
    const id = await containers();
    const removed = untilRemoved(client().getContainer(id));
    wire.child.kill('SIGKILL');
    await removed;
    expect(await containers()).toBe('');
    expect((await run([...auxverb, 'true'])).code).toBe(254);
  });

  test('an image of the daemon becomes an image of ours', async () => {
    const root = await baseRoot();
    const tar = [
      '/bin/sh',
      '-c',
      'tar -C "$1" --numeric-owner -c . | docker import - "$2"',
      'sh',
      root,
      'goldbed-import-test',
    ];
    await check(tar, { env: daemon.env });
    const own = new Goldbed(goldbed.state, server().env);
    await own.run('image', 'rm', 'from-docker');
    const made = await own.run('image', 'import', 'from-docker', 'docker:goldbed-import-test', '--json');
    expect(made.code, made.stderr).toBe(0);
    const { record } = JSON.parse(made.stdout) as { record: Record<string, unknown> };
    expect(record).toMatchObject({ image: 'from-docker', strategy: 'import', recipe: { suite: await hostSuite() } });
    const wire = new Wire({ ...server(), argv: [virtProgram, 'overlay', 'from-docker'] });
    expect(await wire.ask('open')).toMatch(/^ok /);
    const auxverb = decodeArgv((await wire.ask('print-execute-command')).slice(3));
    expect((await run([...auxverb, 'dpkg', '--audit'])).code).toBe(0);
    expect(await wire.quit()).toBe(0);
    const inDocker = new Wire({ ...server(), argv: [virtProgram, 'docker', 'from-docker'] });
    expect(await inDocker.ask('open')).toMatch(/^ok /);
    expect(await inDocker.quit()).toBe(0);
    const tag = String(record['digest']).replace('sha256:', '');
    expect(await docker('image', 'ls', '--quiet', `goldbed-2:${tag}`)).not.toBe('');
    const missing = await own.run('image', 'import', 'nothing', 'docker:no-such-image');
    expect([missing.code, missing.stderr.trim()]).toEqual([
      64,
      'goldbed: the docker daemon has no image no-such-image: docker pull no-such-image',
    ]);
    expect((await own.run('image', 'rm', 'from-docker')).code).toBe(0);
    await dockerBackend(stateAt(goldbed.state), { socket: daemon.socket, network: 'host' }).reap();
    expect(await docker('image', 'ls', '--quiet', `goldbed-2:${tag}`)).toBe(''); // it goes with its generation
    expect(await containers()).toBe('');
  });

  test('a daemon that is not there is one line', async () => {
    const ran = await run([virtProgram, 'docker', smallImage.name], {
      env: { ...server().env, GOLDBED_DOCKER_SOCKET: '/nonexistent.sock' },
    });
    expect(ran).toMatchObject({ code: 1, stdout: '' });
    expect(ran.stderr).toBe(
      'goldbed-virt: no docker socket at /nonexistent.sock: apt-get install docker.io, or set docker.socket\n',
    );
    expect(existsSync('/nonexistent.sock')).toBe(false);
  });
});
