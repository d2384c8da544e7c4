/**
 * Why autopkgtest calls a package erroneous (exit 12 and 14): the same codes stand for test dependencies that cannot be
 * installed, for a mirror that is away, and for a package that is really broken. Its log tells (autopkgtest 5.28, adt_testbed.py).
 */
import { MirrorWatch } from './mirror.ts';

export class BadpkgWatch {
  readonly #mirror = new MirrorWatch();
  #setup = false;
  #dependencies = false;
  #other = false;

  see(line: string): void {
    this.#mirror.see(line);
    const [, reason] = /^badpkg: (.*)/.exec(line) ?? [];
    if (reason === undefined) {
      // the summary: one line a test
      if (/^\S+\s+FAIL (?!badpkg)/.test(line)) this.#other = true;
    } else if (reason.startsWith('testbed setup commands failed')) this.#setup = true;
    else if (/^(Test dependencies are unsatisfiable|test dependencies missing)/.test(reason)) this.#dependencies = true;
    else this.#other = true;
  }

  /** What kept the package from being judged; undefined when it was. */
  infrastructure(): string | undefined {
    if (this.#mirror.trouble !== undefined) return `its mirror cannot be used: ${this.#mirror.trouble}`;
    return this.#setup ? 'apt-get update failed' : undefined;
  }

  /** Nothing is wrong but that its dependencies cannot be installed. */
  get depWait(): boolean {
    return this.#dependencies && !this.#other;
  }
}
