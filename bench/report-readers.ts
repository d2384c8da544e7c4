/** The readers' part of bench/README.md. */
import type { Results } from './results.ts';
import { names } from './servers.ts';
import { figure, median, ratio, spread } from './statistics.ts';
import { table, verdict } from './table.ts';

type Row = Readonly<Record<string, readonly number[]>>;

/** More than that counts as slower: the medians of two series of the same thing differ by as much. */
const same = 1.1;

export function readersLines({ programs, depths }: NonNullable<Results['readers']>): string[] {
  const rows = Object.entries(programs);
  return [
    '## Readers during an update',
    '',
    ...table([
      [
        '',
        'open, quiet, ms',
        'control load',
        'update',
        'update vs control',
        'compile, quiet, ms',
        'control load',
        'update',
        'update vs control',
      ],
      ...rows.map(([name, row]) => [name, ...times(row, ''), ...times(row, 'build ')]),
    ]),
    '',
    ...table([
      ['', 'sessions during an update', '`apt-get check` failed in', 'failed updates'],
      ...rows.map(([name, row]) => [
        name,
        ...['seen', 'broken', 'failed updates'].map((what) => String(sum(row[what]))),
      ]),
    ]),
    '',
    'Sessions are opened one after the other, for as long as an update with upgrades runs; each runs `true`, compiles five small',
    'programs and runs `apt-get check`. goldbed’s readers are on the generation that was current when they opened; sbuild-update',
    'changes the directory that the sessions of schroot lie on. All share two cores with the update. The control load is the same',
    'upgrade in a session of its own, which is thrown away: what readers lose by the cores alone.',
    '',
    ...targets(programs[names.goldbed] ?? {}, depths),
  ];
}

function times(row: Row, what: string): string[] {
  const [quiet, control, during] = ['quiet', 'control', 'during'].map((when) => row[`${what}${when}`] ?? []);
  return [...[quiet, control, during].map(optional), compared(during, control)];
}

function targets(ours: Row, depths: Row): string[] {
  const [shallow, ...deeper] = Object.entries(depths);
  const rows = [
    ['open during an update', ours['during'], ours['control'], 'with the control load'] as const,
    ['compile during an update', ours['build during'], ours['build control'], 'with the control load'] as const,
    ...deeper.map(([depth, each]) => [`open on ${depth}`, each, shallow?.[1], `on ${shallow?.[0]}`] as const),
  ].flatMap(([what, found, other, name]) => {
    if (found === undefined || other === undefined) return [];
    const part = median(found) / median(other);
    const limit = `at most ${same} of that ${name}, ${figure(median(other))} ms`;
    return [[what, limit, `${figure(median(found))} ms, ${figure(part)}`, verdict(part <= same)]];
  });
  return rows.length === 0 ? [] : [...table([['target', 'limit', 'found', ''], ...rows]), ''];
}

/** Results of an older bench have not everything. */
function optional(values: readonly number[] | undefined = []): string {
  return values.length === 0 ? '' : spread(values);
}

function compared(one: readonly number[] = [], other: readonly number[] = []): string {
  return one.length === 0 || other.length === 0 ? '' : ratio(one, other);
}

function sum(values: readonly number[] = []): number {
  return values.reduce((total, each) => total + each, 0);
}
