/**
 * Stops a host from eating a queue: what fails again and again here for reasons of the testbed is not tried any more, but
 * for a probe now and then. Counted for each generation of an image on the backend that it really ran on, and for the host
 * as a whole; one success clears both, and what other generations of that image had on that backend. A new generation, or
 * another backend, is tried at once. In memory: a worker that starts anew knows nothing, and finds out again.
 */
import type { Ending } from './handle.ts';
import type { RanOn } from './host.ts';

export interface BreakerTimes {
  /** Failures in a row that open a generation on a backend, and the host. */
  readonly image: number;
  readonly host: number;
  /** Milliseconds until the first probe; doubled after each that fails. */
  readonly probe: number;
  readonly longestProbe: number;
}

export const usualTimes: BreakerTimes = { image: 3, host: 5, probe: 60_000, longestProbe: 3_600_000 };

interface Part {
  /** What all generations of an image on a backend have in common. */
  readonly of: string;
  readonly limit: number;
  failures: number;
  message: string;
  /** Our clock, ms. */
  nextProbe: number;
  wait: number;
  /** A job that probes is under way. */
  probing: boolean;
}

/** A job that has begun, as far as the breaker is concerned. */
export interface Trial {
  /** Once. One that ended for other reasons than its testbed's says nothing: its probe is given back. */
  ended(ending: Ending): void;
}

const wholeHost = 'this host';

export class Breaker {
  readonly #parts = new Map<string, Part>();
  readonly #times: BreakerTimes;
  readonly #now: () => number;

  constructor(times: BreakerTimes = usualTimes, now: () => number = () => performance.now()) {
    this.#times = times;
    this.#now = now;
  }

  /** Whether anything has failed of late: if not, all is allowed. */
  get watches(): boolean {
    return this.#parts.size > 0;
  }

  /** Failures in a row, of whatever. */
  get failures(): number {
    return this.#parts.get(wholeHost)?.failures ?? 0;
  }

  /** Whether a job of any kind may be claimed now. */
  allowsHost(): boolean {
    return this.#allowsPart(wholeHost);
  }

  /** Whether a job that would run on this may be claimed now. A probe may be one job: say `began` of it. */
  allows(on: RanOn): boolean {
    return this.#allowsPart(nameOf(on)) && this.allowsHost();
  }

  /** A job was claimed: where this is a probe, no other is allowed until it has ended. @param on what it will run on */
  began(on?: RanOn): Trial {
    const probed = [wholeHost, ...(on === undefined ? [] : [nameOf(on)])].flatMap((name) => {
      const part = this.#parts.get(name);
      return part === undefined || part.failures < part.limit || part.probing ? [] : [part];
    });
    for (const part of probed) part.probing = true;
    return {
      ended: (ending) => {
        for (const part of probed) part.probing = false;
        if (ending.kind === 'completed') this.#succeeded(ending.on);
        if (ending.kind !== 'testbed' && ending.kind !== 'host') return; // an image that others write is no trouble
        for (const part of probed) {
          part.wait = Math.min(part.wait * 2, this.#times.longestProbe);
          part.nextProbe = this.#now() + part.wait;
        }
        this.#failed(wholeHost, wholeHost, ending.message);
        if (ending.kind !== 'testbed' || ending.on === undefined) return;
        this.#failed(nameOf(ending.on), imageOf(ending.on), ending.message);
      },
    };
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

  #succeeded(on: RanOn | undefined): void {
    this.#parts.delete(wholeHost);
    if (on === undefined) return;
    // other generations, too: most of them were replaced by this one, and nothing would ever run on them and clear them
    for (const [name, part] of this.#parts) if (part.of === imageOf(on)) this.#parts.delete(name);
  }

  #failed(name: string, of: string, message: string): void {
    const limit = name === wholeHost ? this.#times.host : this.#times.image;
    const anew = { of, limit, failures: 0, message, nextProbe: 0, wait: this.#times.probe, probing: false };
    const part = this.#parts.get(name) ?? anew;
    part.failures += 1;
    part.message = message;
    if (part.failures === limit) part.nextProbe = this.#now() + part.wait;
    this.#parts.set(name, part);
  }

  #allowsPart(name: string): boolean {
    const part = this.#parts.get(name);
    return part === undefined || part.failures < part.limit || (!part.probing && this.#now() >= part.nextProbe);
  }
}

function imageOf({ image, backend }: RanOn): string {
  return `${image} on ${backend}`;
}

/** `sid@3 on overlay`. */
function nameOf({ image, backend, generation }: RanOn): string {
  return `${image}${generation === undefined ? '' : `@${generation}`} on ${backend}`;
}
