/** What a job's run needs of this host; made by the root, so that `run-job` knows no Redis and no environment. */
import type { State } from '../config/state.ts';
import type { CreateTools } from '../golden/index.ts';
import type { BackendChoice } from '../protocol/job-request.ts';
import type { GenerationRef } from '../protocol/image.ts';
import type { Sizes } from '../protocol/size.ts';
import type { Channel } from '../protocol/testbed.ts';

/** Looks at a generation before it is published. @returns names of what passed @throws {GoldenRefusal} what did not */
export type CandidateCheck = (candidate: OpenedImage, signal: AbortSignal) => Promise<string[]>;

/** A job for which an image is opened. */
export interface SessionOwner {
  readonly runId: string;
  readonly kind: string;
  /** Told the id of each session as it begins: everything of it on this host is named after it. */
  readonly onSession?: (session: string) => void;
}

/** An image on a backend of this host, for one job. */
export interface OpenedImage extends AsyncDisposable {
  readonly image: string;
  /**
   * Starts a server on it, which ends with the signal. One at a time. @param log gets lines of diagnostics
   * @param check what a golden session commits must pass it
   */
  start(log: (line: string) => void, signal: AbortSignal, check?: CandidateCheck): Promise<Channel>;
  /** The generation that is pinned for the whole job; none where only an external server knows what it opens. */
  readonly generation?: GenerationRef;
  readonly backend: string;
  /** The suite it was made from, e.g. `bookworm`. */
  readonly suite: string;
  /** Debian architecture, e.g. `amd64`. */
  readonly arch: string;
}

/** What a job ran on, or would: the backend itself, and the generation that was current. */
export interface RanOn {
  readonly image: string;
  readonly backend: string;
  /** Undefined where only an external server knows what it opens. */
  readonly generation: number | undefined;
}

export interface Host {
  readonly name: string;
  readonly state: State;
  /** A 0700 folder of this worker's own, for the sockets of its sessions. */
  readonly socketFolder: string;
  /** Absolute path of `goldbed-virt`. */
  readonly virtProgram: string;
  /** Debian's own programs, by absolute path. */
  readonly clients: { readonly sbuild: string; readonly autopkgtest: string };
  /** What is reserved for a job of each size. */
  readonly sizes: Sizes;
  /** Megabytes that must be free in the state folder before a job is claimed. */
  readonly minFreeDisk: number;
  /** Removes, in the background, what backends keep of generations that are gone. */
  reap(): void;
  /** Generations of an image that stay when a new one is published; pinned ones always do. */
  keepGenerations(image: string): number;
  /** Pins the current generation. @throws {UsageError} unknown image @throws {TestbedError} backend unavailable */
  openImage(image: string, backend: BackendChoice, job: SessionOwner): Promise<OpenedImage>;
  /** What making a generation of an image anew needs. @throws {TestbedError} no backend works here */
  makingTools(
    image: string,
    runId: string,
    log: (line: string) => void,
    check: CandidateCheck | undefined,
  ): Promise<CreateTools>;
  /** What the host's configuration wants to be built and tested before a generation of an image is published. */
  canaryOf(image: string): string | undefined;
}
