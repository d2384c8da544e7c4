/** What a backend must reach against its stock twin in the same run. */
import { names } from './servers.ts';
import { figure, median } from './statistics.ts';
import { verdict } from './table.ts';

type Row = Readonly<Record<string, readonly number[]>>;

/** At most this part of the twin's median. */
const limits = [
  { ours: names.goldbedDocker, twin: names.docker, quantity: 'open', part: 0.75 },
  { ours: names.goldbedDocker, twin: names.docker, quantity: 'close', part: 0.5 },
  { ours: names.goldbedSchroot, twin: names.schroot, quantity: 'open', part: 1 },
  { ours: names.goldbedSchroot, twin: names.schroot, quantity: 'true', part: 1 },
  { ours: names.goldbedSchroot, twin: names.schroot, quantity: 'close', part: 1 },
] as const;

const copies = {
  file: '200 MB down',
  tree: '5,000 files down',
  fileUp: '200 MB up',
  treeUp: '5,000 files up',
} as const;

/** A table: its head, then a row for each target. Empty where one of the servers could not be measured. */
export function twinTargets(servers: Readonly<Record<string, Row>>): string[][] {
  if (Object.values(names).some((name) => servers[name] === undefined)) return [];
  const of = (name: string, quantity: string): number => median(servers[name]?.[quantity] ?? []);
  const rows = limits.map(({ ours, twin, quantity, part }) => {
    const found = of(ours, quantity) / of(twin, quantity);
    return [`${ours}: ${quantity}`, `at most ${part} of ${twin}`, figure(found), verdict(found <= part)];
  });
  const inDocker = of(names.goldbedDocker, 'true');
  rows.push([`${names.goldbedDocker}: true`, 'at most 10 ms', `${figure(inDocker)} ms`, verdict(inDocker <= 10)]);
  for (const [quantity, what] of Object.entries(copies)) {
    if (servers[names.goldbed]?.[quantity] === undefined) continue; // results of an earlier version
    const best = Math.min(...[names.schroot, names.unshare, names.docker].map((name) => of(name, quantity)));
    for (const ours of [names.goldbed, names.goldbedSchroot, names.goldbedDocker]) {
      const found = of(ours, quantity) / best;
      rows.push([`${ours}: ${what}`, 'at most 1 of the best stock server', figure(found), verdict(found <= 1)]);
    }
  }
  return [['target', 'limit', 'found', ''], ...rows];
}
