/** The streams of a testbed's first process, which a package that is root in there can write to. */
import { spawn } from 'node:child_process';
import { expect, test } from 'vitest';
import { startNamespaces } from '../../../src/backends/overlay/namespace.ts';
import { syscallNumbers, type SyscallNumbers } from '../../../src/exec/syscalls.ts';

const mega = 1024 * 1024;
const mounts = { root: '/r', lower: [], upper: '/u', work: '/w', resolvConf: '/etc/resolv.conf', user: '' };

test('whatever it says once it is ready is not kept', async () => {
  // its number is that of a process of ours: namespaces to open
  const talk = 'read -r settings; echo "ready $$"; read -r go; head -c 16M /dev/zero; head -c 16M /dev/zero >&2';
  const child = spawn('/bin/sh', ['-c', talk], { stdio: ['pipe', 'pipe', 'pipe'] });
  const numbers = syscallNumbers() as SyscallNumbers;
  const namespaces = await startNamespaces(child, mounts, numbers, new AbortController().signal);
  const before = process.memoryUsage().heapUsed;
  const closed = new Promise((resolve) => child.once('close', resolve)); // all of it has been read
  child.stdin.write('go\n');
  await closed;
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(16 * mega);
  await namespaces.stop();
});
