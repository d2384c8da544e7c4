/** The time of each step of a job; the client's own stages are recognised by the headings in its log. */
import type { Steps } from '../protocol/outcome.ts';

/** Ends the step before whenever the next begins. */
export class StepClock {
  readonly #steps: { name: string; seconds: number }[] = [];
  #current: { readonly name: string; readonly since: number } | undefined;
  readonly #now: () => number;

  /** `now` in milliseconds, monotonic. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** A step that is over already, in seconds. */
  add(name: string, seconds: number): void {
    this.#steps.push({ name, seconds: rounded(seconds) });
  }

  begin(name: string): void {
    if (this.#current?.name === name) return;
    this.end();
    this.#current = { name, since: this.#now() };
  }

  end(): void {
    if (this.#current === undefined) return;
    this.add(this.#current.name, (this.#now() - this.#current.since) / 1000);
    this.#current = undefined;
  }

  /** All finished steps; a name that came more than once (the tests of a package) is one entry, at its first place. */
  steps(): Steps {
    const sums = new Map<string, number>();
    for (const { name, seconds } of this.#steps) sums.set(name, rounded((sums.get(name) ?? 0) + seconds));
    return [...sums].map(([name, seconds]) => ({ name, seconds }));
  }
}

function rounded(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}

/** Recognises the line that begins a stage; undefined for all other lines. */
export type StageOfLine = (line: string) => string | undefined;

/** sbuild frames its headings: `| Install package build dependencies      |`. */
export const sbuildStage: StageOfLine = (line) => {
  const title = /^\| (\S.*?)\s+\|$/.exec(line)?.[1];
  return title === undefined ? undefined : sbuildTitles.get(title);
};

/** Not an object: a package that prints `| constructor |` would find what every object has. */
const sbuildTitles = new Map(
  Object.entries({
    'Update chroot': 'apt-update',
    'Fetch source files': 'fetch',
    'Install package build dependencies (main)': 'deps',
    'Install package build dependencies': 'deps',
    'Install build-essential': 'deps',
    'Check architectures': 'deps',
    'Build environment': 'unpack',
    Build: 'build',
    Buildinfo: 'post',
    Changes: 'post',
    'Package contents': 'post',
    'Post Build': 'post',
    Cleanup: 'post',
    Summary: 'post',
  }),
);

/** autopkgtest marks its phases: `autopkgtest [12:00:00]: @@@@ test bed setup`, `test NAME: [-----`. */
export const autopkgtestStage: StageOfLine = (line) => {
  const said = /^autopkgtest \[[\d:]+\]: (.*)$/.exec(line)?.[1];
  if (said === undefined) return undefined;
  if (said.startsWith('@@@')) return autopkgtestPhases.find(([mark]) => said.includes(mark))?.[1];
  if (/^test \S+: preparing testbed/.test(said)) return 'deps';
  if (/^test \S+: \[-+/.test(said)) return 'test';
  if (/^test \S+: -+\]/.test(said)) return 'post';
  return undefined;
};

const autopkgtestPhases = [
  ['test bed setup', 'setup'],
  ['source', 'source'],
  ['unbuilt-tree', 'source'],
  ['summary', 'post'],
] as const;
