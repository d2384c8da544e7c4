/** Everything without root: the overlay backend in a user namespace, driven over the wire and by the command line. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { run, type Finished } from '../../src/exec/run.ts';
import { hostSuite, testCache } from './fixtures/base-image.ts';
import { program, virtProgram } from './fixtures/goldbed.ts';
import { ordinaryUser, ordinaryUserUnavailable } from './fixtures/ordinary-user.ts';
import { describeWith } from './fixtures/requirements.ts';
import { describeVirtServer } from './vectors/describe-virt-server.ts';

const user = await ordinaryUser(path.join(testCache(), 'ordinary-user'));
const unavailable = await ordinaryUserUnavailable(user, virtProgram);
const env = {
  PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
  GOLDBED_NODE: process.execPath,
  GOLDBED_STATE: path.join(user.home, 'state'),
  HOME: user.home,
};
const goldbed = (...args: string[]): Promise<Finished> => run(user.as([program, ...args]), { env });

describeWith('overlay-user', unavailable, 'overlay, as an ordinary user', () => {
  beforeAll(async () => {
    if (existsSync(path.join(env.GOLDBED_STATE, 'images/small/head'))) return;
    const made = await goldbed('image', 'create', 'small', '--suite', await hostSuite(), '--variant', 'apt');
    if (made.code !== 0) throw new Error(`image create: ${made.stderr}`);
  });

  describeVirtServer(
    'goldbed-virt overlay',
    () => ({ argv: user.as([virtProgram, 'overlay', 'small']), env, revert: true }),
    true,
  );

  test('apt, dpkg and owners work as they do for root; nothing is left, and no mount is the host’s', async () => {
    const script = [
      'set -e; test $(id -u) = 0; touch /root/mine; chown games:mail /root/mine; stat -c %U:%G /root/mine',
      'apt-get check; dpkg --audit; su nobody -s /bin/sh -c "id -un"',
    ].join('\n');
    const client = path.join(import.meta.dirname, 'fixtures/run-in-session.ts');
    const argv = [process.execPath, '--import', 'tsx', client, virtProgram, 'small', script];
    const ran = await run(user.as(argv), { env, cwd: path.resolve(import.meta.dirname, '../..') });
    expect(ran).toMatchObject({ code: 0, stdout: expect.stringMatching(/^games:mail\n[^]*nobody\n$/) });
    expect(await readFile('/proc/self/mountinfo', 'utf8')).not.toContain(user.home);
  });

  test('an update runs to its end, and a damaged request is one line', async () => {
    const updated = await goldbed('image', 'update', 'small', '--wait', '--json');
    expect(updated).toMatchObject({ code: 0 });
    const missing = await goldbed('build', 'no-such.dsc', '--image', 'small');
    expect([missing.code, missing.stderr.trim().split('\n').length]).toEqual([64, 1]);
  });

  test('who has no subordinate ids is told the command that gives them', async () => {
    const without = await ordinaryUser(`${user.home}-without-ids`, '');
    const ran = await run(without.as([virtProgram, 'overlay', 'small']), { env });
    expect(ran.code).toBe(1);
    expect(ran.stderr).toMatch(/^goldbed-virt: not root, and \/etc\/subuid has no range for .*usermod --add-subuids/);
  });
});
