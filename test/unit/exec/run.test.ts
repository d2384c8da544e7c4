/** Child processes that say too much, and such as leave something behind that keeps their output open. */
import { expect, test } from 'vitest';
import { run, TooMuchOutput } from '../../../src/exec/run.ts';

const sh = (script: string): string[] => ['/bin/sh', '-c', script];

test('of what is said too much the end is kept, and onOutput gets all', async () => {
  let seen = 0;
  const script = 'head -c 3000000 /dev/zero | tr "\\0" x; printf end; head -c 3000000 /dev/zero >&2';
  const { code, stdout, stderr } = await run(sh(script), { keep: 4096, onOutput: (chunk) => (seen += chunk.length) });
  expect([code, stdout.slice(-5), seen]).toEqual([0, 'xxend', 6_000_003]);
  expect([stdout.length, stderr.length]).toEqual([4096, 4096]);
});

test('without a limit all is kept', async () => {
  expect((await run(sh('head -c 3000000 /dev/zero'))).stdout).toHaveLength(3_000_000);
});

test('an abort does not wait for a process that has left the group and keeps the output open', async () => {
  const stop = new AbortController();
  let left = 0;
  const onOutput = (chunk: Buffer): void => {
    left = Number(chunk.toString());
    stop.abort(new Error('enough'));
  };
  const script = "setsid sh -c 'echo $$; exec sleep 1000' & wait";
  await expect(run(sh(script), { signal: stop.signal, grace: 0, onOutput })).rejects.toThrow('enough');
  process.kill(left, 'SIGKILL');
});

test('who says more than it may is killed', async () => {
  await expect(run(['/usr/bin/yes'], { atMost: 1_000_000 })).rejects.toThrow(TooMuchOutput);
  expect((await run(sh('head -c 1000 /dev/zero'), { atMost: 1000 })).stdout).toHaveLength(1000);
});

test('a daemon that a command has left behind is waited for no longer than is said', async () => {
  const { code, stdout } = await run(sh('sleep 1000 & echo $!; exit 3'), { lingers: 1000 });
  expect([code, stdout]).toEqual([3, expect.stringMatching(/^\d+\n$/)]);
  process.kill(Number(stdout), 'SIGKILL');
});
