/** One section of a job's log, as its client divides it: sbuild, autopkgtest, or goldbed's own update. */

/** Takes the log as it comes, and gives the lines of one section. */
export class LogSection {
  readonly #wanted: string;
  readonly #titles = new Set<string>();
  #rest = '';
  #inside = false;
  /** Whether there has been one. */
  found = false;

  /** @param title in any case; of steps that were done in one go, either */
  constructor(title: string) {
    this.#wanted = title.toLowerCase();
  }

  /** Of all sections so far, in their order. */
  get titles(): readonly string[] {
    return [...this.#titles];
  }

  /** @param chunk latin1, so that nothing of the log is changed @returns whole lines */
  feed(chunk: string): string {
    const lines = `${this.#rest}${chunk}`.split('\n');
    this.#rest = lines.pop() ?? '';
    return lines.map((line) => this.#line(line)).join('');
  }

  /** What is left without a line's end. */
  end(): string {
    return this.#rest === '' ? '' : this.feed('\n');
  }

  #line(line: string): string {
    const title = titleIn(line);
    if (title !== undefined) {
      this.#titles.add(title);
      this.#inside = [title, ...title.split(', ')].some((each) => each.toLowerCase() === this.#wanted);
      this.found ||= this.#inside;
    }
    return this.#inside && !/^\+-+\+$/.test(line) ? `${line}\n` : '';
  }
}

const headings = [
  /^\| (\S.*?)\s+\|$/, // sbuild
  /^autopkgtest \[[\d:]+\]: @+ (\S.*)$/,
  /^autopkgtest \[[\d:]+\]: (test \S+): (?:preparing testbed|\[-)/,
  /^goldbed: ([a-z, -]+)$/, // the steps of an update
];

/** Also for what stands behind a section, and belongs to none. */
function titleIn(line: string): string | undefined {
  for (const heading of headings) {
    const title = heading.exec(line)?.[1];
    if (title !== undefined) return title;
  }
  return undefined;
}
