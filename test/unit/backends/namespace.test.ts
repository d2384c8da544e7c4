/** The streams of a testbed's first process, which a package that is root in there can write to. */
import { spawn } from 'node:child_process';
import { afterEach, expect, test, vi } from 'vitest';
import { startNamespaces } from '../../../src/backends/overlay/namespace.ts';
import { startTime } from '../../../src/exec/process-identity.ts';
import { syscallNumbers, type SyscallNumbers } from '../../../src/exec/syscalls.ts';

const mega = 1024 * 1024;
const mounts = { root: '/r', lower: [], upper: '/u', work: '/w', resolvConf: '/etc/resolv.conf', user: '' };

afterEach(() => void vi.useRealTimers());

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

test('one that does not end is killed itself, not only who waits for it', async () => {
  const first = 'sleep 1000 >/dev/null 2>&1 & echo "ready $!"; wait';
  const child = spawn('/bin/sh', ['-c', first], { stdio: ['pipe', 'pipe', 'pipe'] });
  const numbers = syscallNumbers() as SyscallNumbers;
  const namespaces = await startNamespaces(child, mounts, numbers, new AbortController().signal);
  const pid = Number(namespaces.words[0]?.split(':')[1]);
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const stopped = namespaces.stop();
  await vi.advanceTimersByTimeAsync(10_000);
  await stopped;
  expect(startTime(pid)).toBeUndefined();
});
