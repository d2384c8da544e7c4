/** The readers' part of bench/README.md. */
import type { Results } from './results.ts';
import { figure, median, ratio, spread } from './statistics.ts';
import { table } from './table.ts';

export function readersLines({ programs, depths }: NonNullable<Results['readers']>): string[] {
  const sum = (values: readonly number[] | undefined): number =>
    (values ?? []).reduce((total, each) => total + each, 0);
  const rows = Object.entries(programs).map(([name, row]) => [
    name,
    spread(row['quiet'] ?? []),
    spread(row['during'] ?? []),
    ratio(row['during'] ?? [], row['quiet'] ?? []),
    `${sum(row['broken'])} of ${sum(row['seen'])}`,
    String(sum(row['failed updates'])),
  ]);
  const [shallow, deep] = Object.entries(depths);
  return [
    '## Readers during an update',
    '',
    ...table([
      [
        '',
        'open, quiet, ms',
        'open, during an update, ms',
        'ratio',
        'sessions in which `apt-get check` failed',
        'failed updates',
      ],
      ...rows,
    ]),
    '',
    'Sessions are opened one after the other, for as long as an update with upgrades runs; each runs `true` and `apt-get check`.',
    'goldbed’s readers are on the generation that was current when they opened; sbuild-update changes the directory that the',
    'sessions of schroot lie on. Both sides share two cores with their update.',
    '',
    ...(shallow === undefined || deep === undefined
      ? []
      : [
          `A deep stack: open takes ${figure(median(shallow[1]))} ms on ${shallow[0]}, ${figure(median(deep[1]))} ms on ${deep[0]} (${ratio(deep[1], shallow[1])}).`,
          '',
        ]),
  ];
}
