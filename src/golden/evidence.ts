/**
 * Evidence that a stranger's update went well. sbuild-update says `close` and `quit` alike after success, after a failed
 * apt-get and after a signal, and its exit status is 0 after most failures: so it is the commands themselves that count,
 * as libexec/journal-enter wrote them down.
 */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';

/** A command that a client ran. */
export interface Entry {
  readonly argv: readonly string[];
  /** Undefined: it still runs, or its end was never seen. */
  readonly status: number | undefined;
}

export async function readJournal(folder: string): Promise<Entry[]> {
  const begun = (await readdir(folder)).filter((name) => name.endsWith('.begin')).toSorted();
  return Promise.all(
    begun.map(async (name) => {
      const words = (await readFile(path.join(folder, name), 'utf8')).split('\0').slice(0, -1);
      const end = await readFile(path.join(folder, name.replace(/begin$/, 'end')), 'utf8').catch(() => undefined);
      return { argv: words, status: end === undefined ? undefined : Number(end) };
    }),
  );
}

/** For people: a line for each, with its end. */
export function journalText(journal: readonly Entry[]): string {
  return journal.map(({ argv, status }) => `${status ?? 'no end seen'}\t${argv.join(' ')}\n`).join('');
}

/** Why these commands are no reason to publish; undefined when they are one. */
export function doubt(journal: readonly Entry[]): string | undefined {
  const running = journal.find(({ status }) => status === undefined);
  if (running !== undefined) return `a command has not ended: ${named(running)}`;
  const changes = journal.filter(({ argv }) => changesPackages(commandOf(argv)));
  const failed = journal.find(
    ({ argv, status }) => status !== 0 && (changesPackages(commandOf(argv)) || mayChangePackages(commandOf(argv))),
  );
  if (failed !== undefined) return `a command failed with ${failed.status}: ${named(failed)}`;
  return changes.length === 0 ? 'no command that changes packages was run' : undefined;
}

function named({ argv }: Entry): string {
  return commandOf(argv).slice(0, 4).join(' ');
}

const frontEnds = new Set(['apt-get', 'apt', 'aptitude']);
const dpkgActions = /^(-[irPa]|--(install|unpack|configure|remove|purge|set-selections|clear-selections))$/;

function changesPackages([program = '', ...args]: readonly string[]): boolean {
  const name = path.basename(program);
  if (frontEnds.has(name)) return true;
  return name === 'dpkg' && args.some((word) => dpkgActions.test(word));
}

/** The name of such a program, as a word of its own: `dpkg-query` and `/etc/apt/` are none. */
const mentioned = /(?:^|[\s;&|(){}'"`$/])(?:apt(?:-get)?|aptitude|dpkg)(?![\w./-])/;

/**
 * Whether a command that we do not understand speaks of such a program: a shell line, `timeout 600 apt-get upgrade`. It is
 * no evidence that something went well, but where it failed, something may have gone wrong.
 */
function mayChangePackages([program = '', ...args]: readonly string[]): boolean {
  return path.basename(program) !== 'dpkg' && args.some((word) => mentioned.test(word));
}

/** Without what clients put before a command: `env A=B ...`, `runuser -u USER --`, `sh -c SCRIPT NAME` that execs its arguments. */
function commandOf(argv: readonly string[]): readonly string[] {
  const [program = '', ...rest] = argv;
  switch (path.basename(program)) {
    case 'env': {
      const first = rest.findIndex((word) => !/^(-|[A-Za-z_]\w*=)/.test(word));
      return first === -1 ? argv : commandOf(rest.slice(first));
    }
    case 'runuser': {
      const end = rest.indexOf('--');
      return end === -1 ? argv : commandOf(rest.slice(end + 1));
    }
    case 'sh': {
      const [flag, script = '', , ...command] = rest;
      return flag === '-c' && script.includes('"$@"') && command.length > 0 ? commandOf(command) : argv;
    }
    default:
      return argv;
  }
}
