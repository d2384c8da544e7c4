/**
 * The write of an image in a model (fixtures/write-model.ts): writers, a lease that may run out, a Redis that may lose its
 * last writes, an operator who rolls back, and a crash at every step. Two writers are explored whole; three by random walks,
 * whose seed fast-check prints when one fails. That the code does as the model says is for interleavings.test.ts and for the
 * tests with real processes.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { begin, complaints, crash, nextStates, over, step, type Flaw, type State } from './fixtures/write-model.ts';

const walks = Number(process.env['GOLDBED_MODEL_RUNS'] ?? 10_000);

interface Explored {
  readonly states: number;
  readonly transitions: number;
  /** The first that is wrong. */
  readonly wrong?: string;
}

function explore(writers: number, flaw?: Flaw): Explored {
  const seen = new Set<string>();
  const open: State[] = [begin(writers)];
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

/** From here: all others die, the lease runs out, and a new writer must come through by its own steps alone. */
function blocked(state: State, flaw?: Flaw): string[] {
  let now = state;
  for (const index of state.writers.keys()) if (!over(now.writers[index])) now = crash(now, index);
  const mine = now.writers.length;
  now = { ...now, writers: [...now.writers, ...begin(1).writers], redis: { ...now.redis, lease: undefined } };
  for (let next = step(now, mine, flaw); next !== undefined; next = step(now, mine, flaw)) now = next;
  if (now.writers[mine]?.step !== 'done') return [`a new writer ends ${now.writers[mine]?.step}`];
  const published = [1, ...now.commits.map(({ generation }) => generation)];
  return now.store.there.filter((number) => !published.includes(number)).map((number) => `${number} is left`);
}

test('two writers, whole: nothing is published twice, nothing unpublished is seen, the dead block nobody', () => {
  const { states, transitions, wrong } = explore(2);
  process.stderr.write(`write model: 2 writers, ${states} states, ${transitions} transitions\n`);
  expect(wrong).toBeUndefined();
  expect(transitions).toBeGreaterThan(10_000);
}, 120_000);

test(`three writers, ${walks} interleavings`, () => {
  fc.assert(
    fc.property(fc.array(fc.nat(), { minLength: 10, maxLength: 60 }), (choices) => {
      let state = begin(3);
      for (const choice of choices) {
        const next = nextStates(state);
        state = next[choice % Math.max(1, next.length)] ?? state;
        expect(complaints(state)).toEqual([]);
      }
      expect(blocked(state)).toEqual([]);
    }),
    { numRuns: walks },
  );
}, 120_000);

test.each([
  ['no floor', /^a new writer ends refused/],
  ['no claim check', /^a commit after a newer writer had registered/],
  ['no head check', /^a commit on what was not current/],
  ['no clean-up', /is left$/],
] as const)(
  'the checks find a flaw: %s',
  (flaw, complaint) => {
    expect(explore(2, flaw).wrong).toMatch(complaint);
  },
  120_000,
);
