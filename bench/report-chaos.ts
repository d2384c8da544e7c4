/** The chaos suite's part of bench/README.md. */
import type { ChaosFleet } from './chaos.ts';
import { table } from './table.ts';

export function chaosLines(fleets: readonly ChaosFleet[]): string[] {
  if (fleets.length === 0) return [];
  const kinds = [...new Set(fleets.flatMap(({ faults }) => Object.keys(faults)))];
  const sum = (of: (fleet: ChaosFleet) => number): number => fleets.reduce((total, fleet) => total + of(fleet), 0);
  const met = (fleet: ChaosFleet): number => Object.values(fleet.faults).reduce((total, times) => total + times, 0);
  const counts = (date: string, seed: string, of: (each: (fleet: ChaosFleet) => number) => number): string[] => [
    ...[date, seed],
    ...[met, ...columns.map(([, column]) => column)].map((each) => of(each).toLocaleString('en')),
  ];
  return [
    '## Chaos',
    '',
    'Fleets of three hosts, with real workers and real overlay sessions, under faults at random (`npm run test:chaos`; one',
    'more with `GOLDBED_CHAOS_SEED=SEED GOLDBED_FLEET_FAULTS=N`). Most jobs are a small client’s; the real builds are',
    'sbuild’s. Lost: acknowledged, and not done in the end. Done again: more than once, and counted once, which is no fault.',
    'Complaints: all that the history checker found wrong, lost jobs among it.',
    '',
    ...table([
      ['', 'seed', 'faults', ...columns.map(([title]) => title)],
      ...fleets.map((fleet) => counts(fleet.date, String(fleet.seed), (each) => each(fleet))),
      counts('**all**', '', sum),
    ]),
    '',
    ...remarks(fleets),
    ...table([
      ['fault', 'times'],
      ...kinds.map((kind) => [kind, sum(({ faults }) => faults[kind] ?? 0).toLocaleString('en')]),
    ]),
    '',
  ];
}

function remarks(fleets: readonly ChaosFleet[]): string[] {
  const said = fleets.flatMap(({ seed, remark }) => (remark === undefined ? [] : [`- ${seed}: ${remark}`]));
  return said.length === 0 ? [] : [...said, ''];
}

const columns: readonly (readonly [string, (fleet: ChaosFleet) => number])[] = [
  ['jobs', ({ jobs }) => jobs],
  ['real builds', ({ real }) => real],
  ['attempts', ({ attempts }) => attempts],
  ['lost', ({ lost }) => lost],
  ['done again', ({ repeated }) => repeated],
  ['complaints', ({ complaints }) => complaints],
];
