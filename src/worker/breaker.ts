/**
 * Stops a host from eating a queue: what fails again and again here for reasons of the testbed is not tried any more, but
 * for a probe now and then. Counted for each image on each backend, and for the host as a whole; one success clears both.
 */

export interface BreakerTimes {
  /** Failures in a row that open an image on a backend, and the host. */
  readonly image: number;
  readonly host: number;
  /** Milliseconds until the first probe; doubled after each that fails. */
  readonly probe: number;
  readonly longestProbe: number;
}

const usual: BreakerTimes = { image: 3, host: 5, probe: 60_000, longestProbe: 3_600_000 };

interface Part {
  readonly limit: number;
  failures: number;
  message: string;
  /** Our clock, ms. */
  nextProbe: number;
  wait: number;
}

const wholeHost = 'this host';

export class Breaker {
  readonly #parts = new Map<string, Part>();
  readonly #times: BreakerTimes;
  readonly #now: () => number;

  constructor(times: BreakerTimes = usual, now: () => number = () => performance.now()) {
    this.#times = times;
    this.#now = now;
  }

  /** Whether a job of this image on this backend may be claimed now. A probe may be one job: say `began` of it. */
  allows(image: string, backend: string): boolean {
    return this.#partsOf(image, backend).every((name) => this.#allowsPart(name));
  }

  /** A job was claimed: where this is a probe, no other is allowed until it has ended or its time has passed. */
  began(image: string, backend: string): void {
    for (const name of this.#partsOf(image, backend)) {
      const part = this.#parts.get(name);
      if (part === undefined || part.failures < part.limit) continue;
      part.wait = Math.min(part.wait * 2, this.#times.longestProbe);
      part.nextProbe = this.#now() + part.wait;
    }
  }

  succeeded(image: string, backend: string): void {
    for (const name of this.#partsOf(image, backend)) this.#parts.delete(name);
  }

  failed(image: string, backend: string, message: string): void {
    for (const name of this.#partsOf(image, backend)) {
      const limit = name === wholeHost ? this.#times.host : this.#times.image;
      const part = this.#parts.get(name) ?? { limit, failures: 0, message, nextProbe: 0, wait: this.#times.probe };
      part.failures += 1;
      part.message = message;
      if (part.failures === limit) part.nextProbe = this.#now() + part.wait;
      this.#parts.set(name, part);
    }
  }

  /** What is not tried now, and why, for people. */
  troubles(): string[] {
    return [...this.#parts]
      .filter(([, part]) => part.failures >= part.limit)
      .map(([name, part]) => `${name}: failed ${part.failures} times in a row: ${part.message}`);
  }

  /** Why nothing at all is tried here now. */
  hostTrouble(): string | undefined {
    return this.troubles().find((trouble) => trouble.startsWith(`${wholeHost}: `));
  }

  #allowsPart(name: string): boolean {
    const part = this.#parts.get(name);
    return part === undefined || part.failures < part.limit || this.#now() >= part.nextProbe;
  }

  #partsOf(image: string, backend: string): string[] {
    return [`${image} on ${backend}`, wholeHost];
  }
}
