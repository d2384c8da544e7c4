/** Who lives, also where /proc does not show it: processes of other PID namespaces, as in another container. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { canSee, identityOf, isAlive, ownIdentity, processIdentitySchema } from '../../../src/exec/process-identity.ts';
import { keepSignsIn, removeDeadSigns } from '../../../src/exec/sign-of-life.ts';
import { cannotBeElsewhere, startElsewhere } from './fixtures/elsewhere.ts';

let root: string;
let signs: string;
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'goldbed-identity-'));
  signs = path.join(root, 'signs');
  keepSignsIn(signs);
});
afterEach(() => rmSync(root, { recursive: true }));

test('what an earlier version has written is understood: of the machine’s own namespace', () => {
  const { pid, started, bootId } = ownIdentity();
  const before = processIdentitySchema.parse({ pid, started, bootId });
  expect(canSee(before)).toBe(ownIdentity().pidNamespace === undefined);
  expect(isAlive({ ...ownIdentity(), started: '1' })).toBe(false);
  expect(isAlive({ ...ownIdentity(), bootId: 'x' })).toBe(false);
  expect(isAlive(ownIdentity())).toBe(true);
});

test.skipIf(identityOf()?.pidNamespace !== undefined)(
  'outside of containers nothing more is written than before',
  () => {
    expect(Object.keys(ownIdentity())).toEqual(['pid', 'started', 'bootId']);
    expect(existsSync(signs)).toBe(false);
  },
);

describe.skipIf(cannotBeElsewhere)('a process of another PID namespace', () => {
  test('lives as long as it has its sign, whatever process here has its number', async () => {
    await using other = await startElsewhere(signs);
    const { identity } = other;
    expect([identity.bootId, canSee(identity), isAlive(identity)]).toEqual([ownIdentity().bootId, false, true]);
    expect(isAlive({ ...identity, bootId: 'x' })).toBe(false);
    await other.kill(); // returns when it counts as dead
    expect(isAlive(identity)).toBe(false);
    expect(readdirSync(signs)).toEqual([]); // that was found out, and needs no finding out again
  });

  test('takes its sign along when it ends', async () => {
    const other = await startElsewhere(signs);
    expect(readdirSync(signs)).toHaveLength(1);
    await other.end();
    expect([readdirSync(signs), isAlive(other.identity)]).toEqual([[], false]);
  });

  test('is not taken for dead where its sign is in another folder, or it has none', async () => {
    const other = await startElsewhere(signs);
    const unsigned = { ...other.identity, sign: undefined };
    keepSignsIn(path.join(root, 'of-another-state'));
    expect(isAlive(other.identity)).toBe(true);
    mkdirSync(path.join(root, 'of-another-state'));
    await other.end();
    expect([isAlive(other.identity), isAlive(unsigned)]).toEqual([true, true]);
    keepSignsIn(signs);
    expect([isAlive(other.identity), isAlive(unsigned)]).toEqual([false, true]);
  });

  test('that was killed leaves a sign, which goes with those of all the dead', async () => {
    await using living = await startElsewhere(signs);
    const dead = await startElsewhere(signs);
    keepSignsIn(path.join(root, 'elsewhere')); // so that nobody finds it yet
    await dead[Symbol.asyncDispose]();
    keepSignsIn(signs);
    while (readdirSync(signs).length > 1) removeDeadSigns();
    expect([isAlive(living.identity), isAlive(dead.identity)]).toEqual([true, false]);
  });
});
