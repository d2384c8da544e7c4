/**
 * Writing, reading and collecting an image in a model (fixtures/model/): writers, a lease that may run out, a Redis that may
 * lose its last writes, readers with their pins, collections, an operator who rolls back, and a death at every step. Small
 * casts are explored whole, a big one by random walks. That the code does as the model says is for the tests of the store
 * and of real processes beside this one.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { chaosSeed } from '../../seed.ts';
import { begin, type Cast, type Flaw, type State } from './fixtures/model/state.ts';
import { blocked, complaints, nextStates } from './fixtures/model/world.ts';

const walks = Number(process.env['GOLDBED_MODEL_RUNS'] ?? 10_000);

interface Explored {
  readonly states: number;
  readonly transitions: number;
  /** The first that is wrong. */
  readonly wrong?: string;
}

function explore(cast: Cast, flaw?: Flaw): Explored {
  const seen = new Set<string>();
  const open: State[] = [begin(cast)];
  let transitions = 0;
  for (let state = open.pop(); state !== undefined; state = open.pop()) {
    const key = JSON.stringify(state);
    if (seen.has(key)) continue;
    seen.add(key);
    const [wrong] = [...complaints(state), ...blocked(state, flaw)];
    if (wrong !== undefined) return { states: seen.size, transitions, wrong };
    const next = nextStates(state, flaw);
    transitions += next.length;
    open.push(...next);
  }
  return { states: seen.size, transitions };
}

test.for<[string, Cast]>([
  ['two writers', { writers: 2 }],
  ['an upgrade, a reader and a collection', { writers: 1, readers: 1, collectors: 1 }],
  ['a replacement, a reader and a collection', { writers: 1, readers: 1, collectors: 1, replaces: () => true }],
  ['a replacement and two collections', { writers: 1, collectors: 2, replaces: () => true }],
])('%s, explored whole', { timeout: 120_000 }, ([what, cast]) => {
  const { states, transitions, wrong } = explore(cast);
  process.stderr.write(`model of ${what}: ${states} states, ${transitions} transitions\n`);
  expect(wrong).toBeUndefined();
  expect(transitions).toBeGreaterThan(1000);
});

test(`three writers, two readers and two collections, ${walks} walks`, { timeout: 300_000 }, () => {
  const cast: Cast = { writers: 3, readers: 2, collectors: 2, replaces: (writer) => writer === 1 };
  let steps = 0;
  const walk = fc.property(fc.array(fc.nat(), { minLength: 20, maxLength: 90 }), (choices) => {
    let state = begin(cast);
    for (const choice of choices) {
      const next = nextStates(state);
      state = next[choice % Math.max(1, next.length)] ?? state;
      steps += 1;
      expect(complaints(state)).toEqual([]);
    }
    expect(blocked(state)).toEqual([]);
  });
  fc.assert(walk, { numRuns: walks, seed: chaosSeed('model walks') });
  process.stderr.write(`model walks: ${walks} walks, ${steps} steps\n`);
});

test.for<[Flaw, RegExp, Cast]>([
  ['no floor', /^a new writer ends refused/, { writers: 2 }],
  ['no claim check', /^a commit after a newer writer had registered/, { writers: 2 }],
  ['no head check', /^a commit on what was not current/, { writers: 2 }],
  ['no clean-up', /is left$/, { writers: 2 }],
  [
    'no look at pins',
    /^what a reader has open was removed/,
    { writers: 1, readers: 1, collectors: 1, replaces: () => true },
  ],
  [
    'no look at marks',
    /^what a reader has open was removed/,
    { writers: 1, readers: 1, collectors: 1, replaces: () => true },
  ],
  [
    'layers forgotten',
    /^(the current generation stands on|what a reader has open)/,
    { writers: 1, readers: 1, collectors: 1 },
  ],
  ['written in place', /^a reader saw a mixture/, { writers: 1, readers: 1 }],
])('the checks find a flaw: %s', { timeout: 120_000 }, ([flaw, complaint, cast]) => {
  expect(explore(cast, flaw).wrong).toMatch(complaint);
});
