/** What an update must reach: beside sbuild-update, and beside what apt itself takes in it. */
import { stepPrefix } from './results.ts';
import { figure, median } from './statistics.ts';
import { verdict } from './table.ts';

type Row = Readonly<Record<string, readonly number[]>>;

/** Seconds; `part` of sbuild-update's time. */
const limits = { part: 0.5, aroundNothing: 1, publishing: 0.5 } as const;

/** Steps that are not apt's. */
const own = ['queued', 'opened', 'committed', 'closed', 'around'];

/** A table: its head, then a row for each target. @param programs ours first @param packages how many were upgraded */
export function updateTargets(programs: readonly (readonly [string, Row])[], packages: string): string[][] {
  const [ours, theirs] = programs;
  if (ours === undefined || theirs === undefined) return [];
  const found = median(ours[1]['upgrades'] ?? []) / median(theirs[1]['upgrades'] ?? []);
  const beside = median(withoutApt(ours[1], 'nothing'));
  const publishing = median(ours[1][`upgrades ${stepPrefix}committed`] ?? []);
  return [
    ['target', 'limit', 'found', ''],
    ['update with upgrades', `at most ${limits.part} of ${theirs[0]}`, figure(found), verdict(found <= limits.part)],
    [
      'update with nothing to do, beside apt’s own steps',
      `at most ${limits.aroundNothing} s`,
      `${figure(beside)} s`,
      verdict(beside <= limits.aroundNothing),
    ],
    [
      `verifying and publishing ${packages} upgraded packages, after apt’s last step`,
      `at most ${limits.publishing} s`,
      `${figure(publishing)} s`,
      verdict(publishing <= limits.publishing),
    ],
  ];
}

/** Of each run. */
function withoutApt(row: Row, kind: string): number[] {
  const steps = own.map((name) => row[`${kind} ${stepPrefix}${name}`] ?? []);
  return (row[kind] ?? []).map((_, run) => steps.reduce((sum, each) => sum + (each[run] ?? 0), 0));
}
