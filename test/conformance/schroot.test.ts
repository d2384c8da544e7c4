/** The schroot backend: goldbed's layers under Debian's own schroot. */
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { nativeBackends } from '../../src/backends/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { killGroup, run, start } from '../../src/exec/run.ts';
import { decodeArgv } from '../../src/protocol/adt-virt/words.ts';
import { goldbedWithImage, smallImage, layersOf, wholeLayer, virtProgram, type Goldbed } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';
import { copiesWithoutPrograms } from './fixtures/straight-copies.ts';
import { describeGoldenServer } from './vectors/describe-golden-server.ts';
import { describeVirtServer, Wire, type ServerUnderTest } from './vectors/describe-virt-server.ts';

const backendOf = (root: string) =>
  nativeBackends(stateAt(root), { docker: { socket: '/nonexistent' }, qemu: { memory: 1024, cpus: 1 } }).find(
    ({ name }) => name === 'schroot',
  );

describeWith('schroot', await backendOf('/nonexistent')?.unavailable(), 'schroot', () => {
  let goldbed: Goldbed;
  beforeAll(async () => {
    goldbed = await goldbedWithImage(smallImage);
  });
  const server = (): ServerUnderTest => ({
    argv: [virtProgram, 'schroot', smallImage.name],
    env: { GOLDBED_NODE: process.execPath, GOLDBED_STATE: goldbed.state, GOLDBED_GOLDEN_WAIT: '1' },
    revert: true,
  });
  const leftovers = async (): Promise<unknown> => ({
    sessions: readdirSync('/var/lib/schroot/session').filter((name) => name.startsWith('goldbed-')),
    definitions: readdirSync('/etc/schroot/chroot.d').filter((name) => name.startsWith('goldbed-')),
    mounts: (await readFile('/proc/self/mountinfo', 'utf8')).split('\n').filter((line) => line.includes('schroot')),
    folders: readdirSync(path.join(goldbed.state, 'sessions')).filter((name) => name.startsWith('schroot-')),
  });
  const nothing = { sessions: [], definitions: [], mounts: [], folders: [] };

  describeVirtServer('goldbed-virt schroot', server, true);
  describeGoldenServer('goldbed-virt schroot', server);

  test('a single file goes straight', () => copiesWithoutPrograms(server()));

  test('close ends its processes and leaves nothing; a late command is refused', async () => {
    const wire = new Wire(server());
    await wire.ask('open');
    const auxverb = decodeArgv((await wire.ask('print-execute-command')).slice(3));
    const { stdout } = await run([...auxverb, '/bin/sh', '-c', 'setsid sleep 1000 >/dev/null 2>&1 & echo $!']);
    expect(await wire.ask('close')).toBe('ok');
    expect(existsSync(`/proc/${stdout.trim()}`)).toBe(false);
    expect((await run([...auxverb, 'true'])).code).toBe(254);
    expect(await leftovers()).toEqual(nothing);
    expect(await wire.quit()).toBe(0);
  });

  test('kill -9 of the server: the next one ends the session', async () => {
    const wire = new Wire(server());
    await wire.ask('open');
    const ended = new Promise((resolve) => wire.child.once('exit', resolve));
    wire.child.kill('SIGKILL');
    await ended;
    const next = new Wire(server());
    expect(await next.ask('capabilities')).toMatch(/^ok/);
    expect(await next.quit()).toBe(0);
    expect(await leftovers()).toEqual(nothing);
  });

  test('a session that is busy when it is reaped is told, and left for the next who tries', async () => {
    const wire = new Wire(server());
    await wire.ask('open');
    const [name = ''] = readdirSync('/var/lib/schroot/session').filter((one) => one.startsWith('goldbed-'));
    const { stdout: root } = await run(['/usr/bin/schroot', '--location', `--chroot=session:${name}`]);
    // of the host's, so schroot does not end it; its folder keeps the mount busy
    const holder = start(['/bin/sh', '-c', 'echo there; exec sleep 1000'], ['ignore', 'pipe', 'ignore'], {
      cwd: root.trim(),
    });
    await once(holder.stdout ?? holder, 'data');
    const ended = once(wire.child, 'exit');
    wire.child.kill('SIGKILL');
    await ended;
    const lines: string[] = [];
    const reap = async (): Promise<unknown> => backendOf(goldbed.state)?.reap((line) => void lines.push(line));
    expect(await reap()).toEqual([]);
    expect(lines).toEqual([expect.stringMatching(/^cannot remove what session \w+ left: .*schroot.*--end-session/)]);
    expect(await leftovers()).toMatchObject({ sessions: [name], folders: [name.replace('goldbed', 'schroot')] });
    const gone = once(holder, 'exit');
    killGroup(holder, 'SIGKILL');
    await gone;
    expect(await reap()).toEqual([name.replace('goldbed-', '')]);
    expect([lines.length, await leftovers()]).toEqual([1, nothing]);
  });

  test('what schroot writes into a session does not become part of an image', async () => {
    const layers = await layersOf(goldbed.state, smallImage.name);
    const having = (name: string): string[] => layers.filter((layer) => existsSync(path.join(layer, name)));
    expect(having('root/mark')).not.toEqual([]); // written through schroot, above
    expect(having('etc/debian_chroot')).toEqual([]);
  });

  test('a chroot of the administrator’s is opened as it is, and announces no golden image', async () => {
    const definition = '/etc/schroot/chroot.d/goldbed-admin-test';
    const root = await wholeLayer(goldbed.state, smallImage.name);
    const lines = [
      '[goldbed-admin-test]',
      'type=directory',
      `directory=${root}`,
      'union-type=overlay',
      'root-users=root',
    ];
    await writeFile(definition, `${lines.join('\n')}\nprofile=minimal\n`);
    try {
      const wire = new Wire({ ...server(), argv: [virtProgram, 'schroot', 'goldbed-admin-test'] });
      expect(await wire.ask('capabilities')).toBe('ok root-on-testbed revert');
      expect(await wire.ask('open')).toMatch(/^ok /);
      const auxverb = decodeArgv((await wire.ask('print-execute-command')).slice(3));
      expect((await run([...auxverb, '/bin/sh', '-c', 'touch /root/x && cat /etc/debian_chroot'])).stdout).toContain(
        'admin',
      );
      expect(await wire.quit()).toBe(0);
    } finally {
      await rm(definition);
    }
    expect(await leftovers()).toEqual(nothing);
  });

  test('nothing of the host’s gets into a session: users, names, files', async () => {
    const wire = new Wire(server());
    await wire.ask('open');
    const auxverb = decodeArgv((await wire.ask('print-execute-command')).slice(3));
    const { stdout } = await run([...auxverb, '/bin/cat', '/etc/passwd', '/etc/resolv.conf']);
    const own = await readFile(path.join(await wholeLayer(goldbed.state, smallImage.name), 'etc/passwd'), 'utf8');
    const user = 'goldbed:x:59999:59999:for tests:/home/goldbed:/bin/bash\n'; // the one that is suggested
    expect(stdout).toBe(`${own}${user}${await readFile('/etc/resolv.conf', 'utf8')}`);
    expect(await wire.quit()).toBe(0);
  });
});
