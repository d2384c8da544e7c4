/** What counts as evidence that an update went well: sbuild's ways to say a command, and what must not be missed. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { check, run } from '../../../src/exec/run.ts';
import { packageFile } from '../../../src/exec/package-file.ts';
import { doubt, readJournal } from '../../../src/golden/evidence.ts';

const sbuild = (...command: string[]): string[] => [
  ...['env', 'PATH=/usr/bin', 'APT_CONFIG=/var/lib/sbuild/apt.conf', '/sbin/runuser', '-u', 'root', '--'],
  ...['sh', '-c', `cd '/' && exec "$@"`, 'exec', ...command],
];

test.each([
  [
    'an upgrade',
    [
      [sbuild('apt-get', 'update'), 0],
      [sbuild('apt-get', '-y', 'dist-upgrade'), 0],
    ],
    undefined,
  ],
  [
    'queries may fail',
    [
      [['apt-get', 'update'], 0],
      [sbuild('getent', 'passwd', 'x'), 2],
      [['dpkg', '-s', 'x'], 1],
    ],
    undefined,
  ],
  ['nothing', [[['ls'], 0]], 'no command that changes packages was run'],
  [
    'a failing upgrade',
    [
      [['apt-get', 'update'], 0],
      [sbuild('/usr/bin/apt-get', 'upgrade'), 100],
    ],
    'a command failed with 100: /usr/bin/apt-get upgrade',
  ],
  [
    'dpkg itself',
    [
      [['apt-get', 'update'], 0],
      [['dpkg', '--configure', '-a'], 1],
    ],
    'a command failed with 1: dpkg --configure -a',
  ],
  [
    'what still runs',
    [
      [['apt-get', 'update'], 0],
      [['sleep', '9'], undefined],
    ],
    'a command has not ended: sleep 9',
  ],
  [
    'a shell line is no command that we understand',
    [[['sh', '-c', 'apt-get update'], 0]],
    'no command that changes packages was run',
  ],
  [
    'a shell line that fails, and speaks of apt',
    [
      [['apt-get', 'update'], 0],
      [sbuild('sh', '-c', 'DEBIAN_FRONTEND=noninteractive apt-get -y dist-upgrade'), 100],
    ],
    'a command failed with 100: sh -c DEBIAN_FRONTEND=noninteractive apt-get -y dist-upgrade',
  ],
  [
    'a shell in full dress',
    [
      [['apt-get', 'update'], 0],
      [['/bin/bash', '-ec', 'cd / && /usr/bin/dpkg --configure -a'], 1],
    ],
    'a command failed with 1: /bin/bash -ec cd / && /usr/bin/dpkg --configure -a',
  ],
  [
    'a program that runs apt for somebody',
    [
      [['apt-get', 'update'], 0],
      [['timeout', '600', 'apt-get', 'upgrade'], 124],
    ],
    'a command failed with 124: timeout 600 apt-get upgrade',
  ],
  [
    'shell lines about something else may fail, and so may queries',
    [
      [['apt-get', 'update'], 0],
      [['sh', '-c', 'test -e /etc/apt/sources.list.d/x; dpkg-query -W x; grep apticron /etc/passwd'], 1],
      [['env', 'A=b', 'dpkg-query', '-W', 'x'], 1],
    ],
    undefined,
  ],
] as const)('%s', (_, journal, expected) => {
  expect(doubt(journal.map(([argv, status]) => ({ argv: [...argv], status })))).toBe(expected);
});

test('the journal has every command with its words and its end, also one that was killed', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'goldbed-journal-'));
  const enter = ['/usr/bin/perl', '-f', packageFile('libexec/journal-enter'), folder, '2', '--', '/usr/bin/env', '--'];
  await check([...enter, 'true', 'a b', 'c\nd', '']);
  expect((await run([...enter, 'sh', '-c', 'exit 7'])).code).toBe(7);
  expect((await run([...enter, 'sh', '-c', 'kill -9 $$'])).code).toBe(137);
  await writeFile(path.join(folder, 'killed.begin'), 'apt-get\0upgrade\0');
  const entries = (await readJournal(folder)).toSorted((a, b) => (a.status ?? 999) - (b.status ?? 999));
  expect(entries).toEqual([
    { argv: ['true', 'a b', 'c\nd', ''], status: 0 },
    { argv: ['sh', '-c', 'exit 7'], status: 7 },
    { argv: ['sh', '-c', 'kill -9 $$'], status: 137 },
    { argv: ['apt-get', 'upgrade'], status: undefined },
  ]);
  const broken = await run([
    ...enter.slice(0, 3),
    '/nonexistent',
    ...enter.slice(4),
    'touch',
    path.join(folder, 'ran'),
  ]);
  expect(broken.code).toBe(254);
  expect((await run(['test', '-e', path.join(folder, 'ran')])).code).toBe(1);
  await rm(folder, { recursive: true });
});
