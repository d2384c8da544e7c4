/** What a native backend writes: a recipe that opens testbeds on the content of a generation. */
import type { BackendName } from '../protocol/job-request.ts';
import type { Testbed, Trait } from '../protocol/testbed.ts';

/** What a generation consists of. One and the same for all backends: those that cannot stack layers merge them. */
export interface Content {
  /** Absolute directories, lowest first; the first is a whole root file system, the others overlayfs upper layers. */
  readonly layers: readonly string[];
  /** Of a published generation, `sha256:...`: what a backend derives from it, and may keep, is named after this. */
  readonly digest?: string;
  /** Where it is another content and one layer more: for those that keep what they have derived from the other one. */
  readonly change?: Change;
}

export interface Change {
  /** Digest of the other content. */
  readonly base: string;
  /** Absolute directory: an overlayfs upper layer on that. */
  readonly layer: string;
}

export interface OpenOptions {
  /** Names everything that the session creates on the host: 32 hex digits at the most, no separator. */
  readonly sessionId: string;
  /**
   * An empty directory, on the file system of the content, that takes the testbed's changes and outlives it (a candidate
   * for the next generation). Without it the changes are thrown away on dispose.
   */
  readonly keepChangesIn?: string;
}

export interface BackendTestbed extends Testbed {
  /**
   * Only on a testbed opened with `keepChangesIn`: stops every process, detaches, and brings the changes to disk (one
   * syncfs). Afterwards that directory holds a finished layer and the testbed is closed. @throws {TestbedError}
   */
  capture?(signal: AbortSignal): Promise<void>;
}

export interface Backend {
  readonly name: BackendName;
  /** Announced while no testbed is open. */
  readonly traits: readonly Trait[];
  readonly revert: boolean;
  readonly reboot: boolean;
  /** Why it cannot work on this host, in one line that a person can act on; undefined when it can. */
  unavailable(): Promise<string | undefined>;
  /** Why `keepChangesIn` cannot be had on this host; undefined, or no such method, when it can. */
  cannotKeep?(): Promise<string | undefined>;
  /**
   * Begins what the next open would have to wait for. Dispose ends what was not used, and waits for that; were this process
   * killed, it would end by itself.
   */
  prepare?(): AsyncDisposable;
  /** @throws {TestbedError} */
  open(content: Content, options: OpenOptions, signal: AbortSignal): Promise<BackendTestbed>;
  /**
   * Removes what sessions of dead processes left on this host. What cannot be removed just now is left for the next time.
   * @param tell gets one line about each of these
   * @returns the session ids that were removed
   */
  reap(tell?: (line: string) => void): Promise<readonly string[]>;
}

/** What backends take from the host's configuration. */
export interface BackendSettings {
  readonly docker: {
    /** Absolute path of the daemon's unix socket. */
    readonly socket: string;
    /** Network of the containers, as `docker run --network` takes it; default: the daemon's own default. */
    readonly network?: string;
    /** Containers boot the init of their image, where it has one. Default: not. */
    readonly init?: boolean;
  };
  /** What a machine has. */
  readonly qemu: {
    /** Megabytes. */
    readonly memory: number;
    readonly cpus: number;
  };
}
