/** The root of a testbed is opened while it is the one that was there first, and nothing else. */
import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { seeRoot } from '../../../src/backends/seen-root.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'goldbed-seen-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test.skipIf(process.getuid?.() !== 0)('neither what is mounted over it nor what is not the testbed’s any more', () => {
  writeFileSync(path.join(folder, 'mine'), 'x');
  let own = true;
  const open = seeRoot(folder, () => own);
  const read = (): string | undefined => {
    const root = open?.();
    if (root === undefined) return undefined;
    try {
      return readFileSync(`/proc/self/fd/${root}/mine`, 'utf8');
    } finally {
      closeSync(root);
    }
  };
  expect(read()).toBe('x');
  execFileSync('mount', ['-t', 'tmpfs', 'none', folder]);
  try {
    expect(read()).toBeUndefined();
  } finally {
    execFileSync('umount', [folder]);
  }
  expect(read()).toBe('x');
  own = false;
  expect(read()).toBeUndefined();
  own = true;
  rmSync(folder, { recursive: true });
  expect(read()).toBeUndefined();
});

test('what is not there is not seen; nor is anything by an ordinary user', () => {
  expect(seeRoot(path.join(folder, 'none'))).toBeUndefined();
  if (process.getuid?.() !== 0) expect(seeRoot(folder)).toBeUndefined();
});
