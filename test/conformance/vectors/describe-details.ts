/** Rows of the table that need more than one write: what the testbed is like, how copies arrive, and each way to end. */
import { existsSync } from 'node:fs';
import { chmod, chown, mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { exec, startServer, Wire, type ServerUnderTest } from './wire.ts';

/** @param stock as for describeVirtServer */
export function describeDetails(server: () => ServerUnderTest, stock: boolean | '5.49'): void {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'goldbed details-'));
    await chmod(folder, 0o777); // the server may be another user's
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));
  const at = (name: string): string => path.join(folder, name);
  const word = (text: string): string => encodeURIComponent(text).replaceAll('%2F', '/');
  const withTimeout = (seconds: string): ServerUnderTest => {
    const { env, ...rest } = server();
    return { ...rest, env: { ...env, AUTOPKGTEST_VIRT_COPY_TIMEOUT: seconds } };
  };
  /** A command in the testbed; our execute command needs no environment at all. */
  const inside = async (wire: Wire, script: string): Promise<{ code: number; stdout: string }> => {
    const argv = [...(await wire.executeCommand()), '/bin/sh', '-c', script];
    const env = stock === false ? {} : { PATH: '/usr/bin:/bin', ...server().env };
    return exec(server().as?.(argv) ?? argv, env);
  };
  /** The folder of the host that the testbed shares, if any; else undefined. */
  const onHost = async (wire: Wire): Promise<string | undefined> =>
    / downtmp-host=(\S+)/.exec(await wire.ask('capabilities'))?.[1];

  test('a time limit for copies that is no number: no banner, exit 1', async () => {
    const child = startServer(withTimeout('abc'));
    let said = '';
    child.stdout?.on('data', (chunk: Buffer) => (said += chunk.toString()));
    const code = await new Promise((resolve) => child.once('close', resolve));
    expect({ code, said }).toEqual({ code: 1, said: '' });
  });

  test('the scratch directory, statuses, and copies of single files', async () => {
    const wire = new Wire(withTimeout('3')); // for what is copied well, too
    const scratch = (await wire.ask('open')).slice(3);
    const shared = await onHost(wire);
    expect((await inside(wire, `stat -c %a ${scratch}`)).stdout.trim()).toMatch(await modes(wire));
    const codes = [];
    for (const status of [0, 1, 77, 255]) codes.push((await inside(wire, `exit ${status}`)).code);
    // a client takes 255 for a lost testbed: of the stock servers those that have ssh or docker in between know that
    expect(codes.slice(0, 3)).toEqual([0, 1, 77]);
    expect(stock === false ? [253] : [253, 255]).toContain(codes[3]);

    await writeFile(at('a b%,é'), '#!/bin/sh\n');
    await chmod(at('a b%,é'), 0o705);
    expect(await wire.ask(`copydown ${word(at('a b%,é'))} ${scratch}/x+y`)).toBe('ok');
    expect(await wire.ask(`copyup ${scratch}/x+y ${word(at('again'))}`)).toBe('ok');
    expect(await readFile(at('again'), 'utf8')).toBe('#!/bin/sh\n');
    // through a pipe, a stock server loses it on the way up
    const keeps = stock === false || shared !== undefined;
    expect(((await stat(at('again'))).mode & 0o111) !== 0).toBe(keeps);
    if (keeps) expect(((await stat(at('again'))).mode & 0o777).toString(8)).toBe('705');

    await mkdir(at('owned'));
    await writeFile(at('owned/file'), 'content');
    await symlink('nowhere', at('owned/link'));
    if (process.getuid?.() === 0) for (const name of ['owned', 'owned/file']) await chown(at(name), 12_345, 12_345);
    expect(await wire.ask(`copydown ${word(`${folder}/owned/`)} ${scratch}/owned/`)).toBe('ok');
    const owners = await inside(
      wire,
      `stat -c %u ${scratch}/owned ${scratch}/owned/file; readlink ${scratch}/owned/link; id -u`,
    );
    const own = owners.stdout.trim().split('\n').at(-1) ?? '';
    expect(owners.stdout).toBe(`${own}\n${own}\nnowhere\n${own}\n`);

    await inside(wire, `mkfifo ${scratch}/fifo`);
    if (stock !== false && shared !== undefined) return expect(await wire.quit()).toBe(0); // it would end with 16
    expect(await wire.ask(`copyup ${scratch}/fifo ${word(at('fifo'))}`)).toBe('timeout');
    expect(await wire.ask('capabilities')).toMatch(/^ok/); // usable still
    expect(await wire.quit()).toBe(0);
  });

  /** As each generation has it: 5.49's assertion is ours. */
  const modes = async (wire: Wire): Promise<RegExp> => {
    if (stock === true) return /^1?777$/; // that of docker is made by docker
    return / isolation-/.test(await wire.ask('capabilities')) ? /^777$/ : /^755$/;
  };

  const ends: [string, (wire: Wire) => unknown, number | string][] = [
    ['quit', (wire) => wire.child.stdin?.write('quit\n'), 0],
    ['SIGQUIT', (wire) => wire.child.kill('SIGQUIT'), 'SIGQUIT'],
    ['SIGTERM after a close', (wire) => wire.child.kill('SIGTERM'), 'SIGTERM'],
    ['the end of its input', (wire) => wire.child.stdin?.end(), 12],
    ['a reply that nobody reads', (wire) => say(wire, 'capabilities'), 'SIGPIPE'],
    ['quit, when nobody reads', (wire) => say(wire, 'quit'), 0],
  ];
  /** What 5.28 gets wrong, or 5.49 still does: the testbed leaks, or it never ends. */
  const wrong =
    stock === true
      ? ['SIGQUIT', 'SIGTERM after a close', 'the end of its input']
      : ['SIGQUIT', 'SIGTERM after a close'];

  test('each way to end closes the testbed, and is told by the status', async () => {
    for (const [end, act, status] of ends) {
      if (stock !== false && (wrong.includes(end) || end === 'quit')) continue;
      const wire = new Wire(server());
      const opened = await wire.ask('open');
      if (end.endsWith('after a close')) {
        expect([await wire.ask('close'), await wire.ask('open')]).toEqual(['ok', opened]);
      }
      const shared = await onHost(wire);
      const argv = await wire.executeCommand();
      act(wire);
      expect([end, await wire.ended()]).toEqual([end, status]);
      if (shared !== undefined) expect([end, existsSync(shared)]).toEqual([end, false]);
      else if (stock === false) expect([end, (await exec([...argv, '/bin/true'])).code]).toEqual([end, 254]);
      if (status === 12) expect(wire.said()).toContain('end of file - caller quit?');
    }
  });

  /** After its reader has gone. */
  const say = (wire: Wire, command: string): void => {
    wire.child.stdout?.destroy();
    wire.child.stdin?.write(`${command}\n`);
  };
}
