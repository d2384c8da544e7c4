/** Who is to blame: the switch for what was thrown, and what the clients' logs tell apart that their exit codes do not. */
import { describe, expect, test } from 'vitest';
import { CommandFailed } from '../../../src/exec/run.ts';
import {
  HostError,
  ImageError,
  ImageLeaseLost,
  Interruption,
  LeaseLost,
  RefreshFailed,
  TestbedError,
  UsageError,
} from '../../../src/protocol/errors.ts';
import { exitCodeOf, failureOf } from '../../../src/protocol/failure.ts';
import { BadpkgWatch } from '../../../src/worker/badpkg.ts';
import { isUnknownSource, MirrorWatch } from '../../../src/worker/mirror.ts';
import { judge } from '../../../src/worker/settle.ts';

const systemError = Object.assign(new Error('ENOSPC: write'), { code: 'ENOSPC', errno: -28, syscall: 'write' });
const refused = Object.assign(new Error('READONLY You can’t write'), { name: 'ReplyError' });
const failedWith = (stderr: string): Error => new CommandFailed(['/bin/cp'], { code: 1, stdout: '', stderr });

const thrown: [string, Error, ReturnType<typeof judge>, number][] = [
  ['a testbed', new TestbedError('open', 'overlay', 'x'), { kind: 'retry', of: 'testbed' }, 76],
  ['the host', new HostError('no input'), { kind: 'retry', of: 'host' }, 76],
  ['a system call', systemError, { kind: 'retry', of: 'host' }, 76],
  ['a program on a full disk', failedWith('cp: x: No space left on device'), { kind: 'retry', of: 'host' }, 76],
  ['Redis', refused, { kind: 'retry', of: 'host' }, 76],
  ['an image that others write', new ImageError('locked'), { kind: 'retry', of: 'image' }, 76],
  ['the right to write an image', new ImageLeaseLost('broken'), { kind: 'retry', of: 'image' }, 76],
  ['the claim', new LeaseLost('gone'), { kind: 'hands-off' }, 70],
  ['the user', new UsageError('x', 'x'), { kind: 'stop' }, 64],
  ['a refresh', new RefreshFailed('x'), { kind: 'stop' }, 76],
  ['an operator', new Interruption('cancelled'), { kind: 'stop' }, 130],
  ['a shutdown', new Interruption('shutdown'), { kind: 'give-back' }, 130],
  ['us', new TypeError('undefined is not a function'), { kind: 'stop' }, 70],
  ['a program', failedWith('cp: no such option'), { kind: 'stop' }, 70],
];
test.each(thrown)('%s', (_, error, verdict, exitCode) => {
  expect(judge(error)).toEqual(verdict);
  expect(exitCodeOf(failureOf(error))).toBe(exitCode);
});

describe('a mirror', () => {
  const complaint = 'E: Failed to fetch http://mirror.example/x.deb  Could not connect to mirror.example:80';
  test('is heard when it is away, or lacks what it promised', () => {
    for (const line of [
      complaint,
      'Err:1 http://mirror.example/debian sid InRelease',
      'W: Some index files failed to download. They have been ignored, or old ones used instead.',
      'E: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?',
    ]) {
      const mirror = new MirrorWatch();
      for (const each of ['Get:1 http://mirror.example/debian sid InRelease', line, complaint]) mirror.see(each);
      expect(mirror.trouble).toBe(line);
    }
  });

  test('a source that it has not got is no such trouble', () => {
    const said = ['E: Unable to find a source package for nope', "E: Can not find version '9' of package 'hello'"];
    for (const line of said) {
      const mirror = new MirrorWatch();
      for (const each of [line, 'E: Failed to fetch source files']) mirror.see(each); // the second is sbuild's
      expect([mirror.trouble, isUnknownSource(`Reading package lists...\n${line}\n`)]).toEqual([undefined, true]);
    }
    expect(isUnknownSource(complaint)).toBe(false);
  });
});

describe('an erroneous package, as autopkgtest says', () => {
  const judged = (...lines: string[]): { infrastructure: string | undefined; depWait: boolean } => {
    const watch = new BadpkgWatch();
    for (const line of lines) watch.see(line);
    return { infrastructure: watch.infrastructure(), depWait: watch.depWait };
  };
  const unsatisfiable =
    'badpkg: Test dependencies are unsatisfiable. A common reason is that your testbed is out of date';

  test('waits for its dependencies', () => {
    expect(judged('smoke                FAIL badpkg', 'blame: toy', unsatisfiable)).toEqual({
      infrastructure: undefined,
      depWait: true,
    });
  });
  test('is broken, or a test of it fails besides', () => {
    expect(judged('badpkg: rules extract failed with exit code 1').depWait).toBe(false);
    expect(judged(unsatisfiable, 'other                FAIL non-zero exit status 1').depWait).toBe(false);
  });
  test('was not judged: its mirror was away', () => {
    expect(judged('badpkg: testbed setup commands failed with status 100').infrastructure).toBe(
      'apt-get update failed',
    );
    expect(judged('Err:1 http://mirror.example/debian sid InRelease', unsatisfiable).infrastructure).toMatch(
      /^its mirror cannot be used: Err:1 http:/,
    );
  });
});
