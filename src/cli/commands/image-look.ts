/** `goldbed image history | diff | drift | verify`: what images consist of, and how their generations differ. */
import { randomUUID } from 'node:crypto';
import { Command } from 'commander';
import {
  diffGenerations,
  driftOf,
  showImage,
  verifyGeneration,
  type GenerationDiff,
  type PackageDiff,
} from '../../golden/index.ts';
import { generationId } from '../../protocol/image.ts';
import { makeContext, type GlobalFlags } from '../context.ts';
import { age, json, out, progress, size, table } from '../print.ts';
import { generationNumber, stopSignal, variantOption } from './image-words.ts';

type Flags = GlobalFlags & { readonly json?: boolean };

export function lookCommands(exit: (code: number) => void): Command[] {
  const command = (name: string, description: string): Command =>
    new Command(name).description(description).option('--json', 'print one JSON document');
  const history = command('history', 'how an image came to be what it is').argument('NAME');
  history.action(async (name: string) => printHistory(name, history.optsWithGlobals<Flags>()));
  const diff = command('diff', 'packages that differ between two generations').argument('NAME');
  diff.argument('[A]', 'default: the parent of B').argument('[B]', 'default: the current one');
  diff.action(async (name: string, a: string | undefined, b: string | undefined) =>
    printDiff(name, generationNumber(a), generationNumber(b), diff.optsWithGlobals<Flags>()),
  );
  const drift = command('drift', 'compare an image with a fresh bootstrap by its recipe; exit 1 if they differ');
  drift.argument('NAME').option(...variantOption);
  drift.action(async (name: string) =>
    exit(await printDrift(name, drift.optsWithGlobals<Flags & { variant?: string }>())),
  );
  const verify = command('verify', 'read a generation and compare it with its digest; exit 1 if it is damaged');
  verify.argument('NAME').argument('[GEN]', 'default: the current one');
  verify.action(async (name: string, generation: string | undefined) =>
    exit(await printVerdict(name, generationNumber(generation), verify.optsWithGlobals<Flags>())),
  );
  return [history, diff, drift, verify];
}

async function printHistory(name: string, flags: Flags): Promise<void> {
  const { state } = makeContext(flags);
  const { all } = await showImage(state, name);
  if (flags.json === true) return json({ image: name, generations: all.map(({ record }) => record) });
  const rows = all.map(({ record, current }) => [
    `${current ? '*' : ' '} ${record.generation}`,
    String(record.parent ?? '-'),
    age(Date.parse(record.created), Date.now()),
    record.strategy,
    record.changes === undefined ? '-' : counts(record.changes),
    record.by,
    record.verified.join(', '),
  ]);
  out(table([['  GEN', 'PARENT', 'AGE', 'STRATEGY', 'PACKAGES', 'BY', 'VERIFIED'], ...rows]));
}

async function printDiff(name: string, a: number | undefined, b: number | undefined, flags: Flags): Promise<void> {
  const { state } = makeContext(flags);
  const found = await diffGenerations(state, name, a, b, stopSignal());
  const { from, to, bytes, ...packages } = found;
  if (flags.json === true) {
    const installed = { before: from.installed, after: to.installed };
    return json({ from: from.generation, to: to.generation, bytes, installed, ...packages });
  }
  const security = [...packages.added, ...packages.changed].filter((one) => one.security).length;
  out(
    `${generationId(from)} -> ${generationId(to)}  ${counts(lengths(packages))}` +
      `${security === 0 ? '' : ` (${security} security)`}  ${sizes(found)}`,
  );
  printPackages(packages);
}

async function printDrift(name: string, flags: Flags & { readonly variant?: string }): Promise<number> {
  const { state } = makeContext(flags);
  const id = randomUUID().replaceAll('-', '');
  const { generation, ...packages } = await driftOf(state, name, id, flags.variant, progress, stopSignal());
  const differs = packages.added.length + packages.removed.length + packages.changed.length > 0;
  if (flags.json === true) json({ image: name, generation: generation.generation, differs, ...packages });
  else if (!differs) out(`${generationId(generation)} is what a fresh bootstrap gives`);
  else {
    out(
      `${generationId(generation)} -> fresh  ${counts(lengths(packages))}  (+ only in a fresh one, - only in the image)`,
    );
    printPackages(packages);
  }
  return differs ? 1 : 0;
}

async function printVerdict(name: string, generation: number | undefined, flags: Flags): Promise<number> {
  const { state } = makeContext(flags);
  const verdict = await verifyGeneration(state, name, generation, stopSignal());
  const { damaged } = verdict;
  if (flags.json === true) json({ image: name, ...verdict });
  else if (damaged.length === 0) out(`${name}@${verdict.generation} is ${verdict.digest}`);
  else
    out(
      `${name}@${verdict.generation} is damaged: the layers of generations ${damaged.join(', ')} differ from their records`,
    );
  return damaged.length === 0 ? 0 : 1;
}

function counts({ added, removed, changed }: Readonly<Record<'added' | 'removed' | 'changed', number>>): string {
  return `+${added} -${removed} ~${changed}`;
}

function lengths({ added, removed, changed }: PackageDiff): Parameters<typeof counts>[0] {
  return { added: added.length, removed: removed.length, changed: changed.length };
}

/** What the installed packages take, as they say: layers would weigh what is removed as more. */
function sizes({ from, to, bytes }: GenerationDiff): string {
  if (from.installed === undefined || to.installed === undefined || bytes === undefined) return 'sizes not known';
  return `${size(from.installed)} -> ${size(to.installed)} (${bytes < 0 ? '-' : '+'}${size(Math.abs(bytes))})`;
}

function printPackages({ added, removed, changed }: PackageDiff): void {
  const rows = [
    ...added.map((one) => ['+', one.name, one.version, one.security ? 'security' : '']),
    ...removed.map((one) => ['-', one.name, one.version, '']),
    ...changed.map((one) => ['~', one.name, `${one.from} -> ${one.version}`, one.security ? 'security' : '']),
  ];
  if (rows.length > 0) out(table(rows));
}
