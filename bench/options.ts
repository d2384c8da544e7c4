/** The command line of the bench. */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

export const sections = ['wire', 'build', 'update', 'readers', 'queue'] as const;
export type Section = (typeof sections)[number];

export interface Options {
  readonly only: readonly Section[];
  readonly rounds: Readonly<Record<Section, number>>;
  readonly suite: string;
  /** Measure nothing: write the report from what is there. */
  readonly report: boolean;
  /** As given, for the report. */
  readonly args: readonly string[];
}

const defaultRounds = { wire: 15, build: 3, update: 3, readers: 3, queue: 3 } as const;

export const usage = `usage: npm run bench -- [--rounds N] [--only wire,build,update,readers,queue] [--suite SUITE]
       npm run bench -- --report
  --rounds N   rounds of every section (default: ${Object.entries(defaultRounds)
    .map(([section, rounds]) => `${section} ${rounds}`)
    .join(', ')})
  --only LIST  sections; the results of the others stay in the report as they are
  --suite S    release of the base image (default: the host's)
  --report     measure nothing: write bench/README.md from results.json and chaos.jsonl
`;

/** @throws {Error} saying what is wrong */
export function parseOptions(args: readonly string[]): Options {
  const string = { type: 'string' } as const;
  const { values } = parseArgs({
    args: [...args],
    options: { rounds: string, only: string, suite: string, report: { type: 'boolean', default: false } },
  });
  const only = values.only === undefined ? sections : values.only.split(',').map(asSection);
  const asked = values.rounds === undefined ? undefined : Number(values.rounds);
  if (asked !== undefined && !(Number.isInteger(asked) && asked > 0)) throw new Error('--rounds: expected 1 or more');
  const rounds =
    asked === undefined
      ? { ...defaultRounds }
      : { wire: asked, build: asked, update: asked, readers: asked, queue: asked };
  return { only, rounds, suite: values.suite ?? hostSuite(), report: values.report, args };
}

function asSection(word: string): Section {
  const section = sections.find((known) => known === word);
  if (section === undefined) throw new Error(`--only: '${word}' is none of ${sections.join(', ')}`);
  return section;
}

function hostSuite(): string {
  const suite = /^VERSION_CODENAME=(\S+)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  if (suite === undefined) throw new Error('--suite is needed: /etc/os-release has no VERSION_CODENAME');
  return suite;
}
