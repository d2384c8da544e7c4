/** What a native backend writes: a recipe that opens testbeds on the content of a generation. */
import type { Testbed, Trait } from '../protocol/testbed.ts';

/** What a generation consists of, by the kind of backend that can open it. */
export type Content = {
  readonly kind: 'layers';
  /** Absolute directories, lowest first; the first is a whole root file system, the others overlayfs upper layers. */
  readonly layers: readonly string[];
};

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
  readonly name: 'overlay';
  /** Announced while no testbed is open. */
  readonly traits: readonly Trait[];
  readonly revert: boolean;
  readonly reboot: boolean;
  /** Why it cannot work on this host, in one line that a person can act on; undefined when it can. */
  unavailable(): Promise<string | undefined>;
  /** @throws {TestbedError} */
  open(content: Content, options: OpenOptions, signal: AbortSignal): Promise<BackendTestbed>;
  /** Removes what sessions of dead processes left on this host. @returns the session ids that were removed */
  reap(): Promise<readonly string[]>;
}
