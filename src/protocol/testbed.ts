/**
 * The seam between the adt-virt server and the backends: what a backend offers, and what the server makes of it. A source
 * says beforehand what its testbeds will be able to do; they have the methods for it.
 */
import type { Readable, Writable } from 'node:stream';

/**
 * A capability word of the adt-virt protocol that describes the testbed itself (autopkgtest's
 * README.virtualisation-server). `revert`, `reboot`, `golden-image` are not traits: they follow from methods.
 */
export type Trait =
  | 'isolation-container'
  | 'isolation-machine'
  | 'root-on-testbed'
  | 'revert-full-system'
  | `suggested-normal-user=${string}`;

/** One program and its arguments; the program is an absolute path. */
export type Argv = readonly [string, ...string[]];

/** One open machine or container, exclusively ours. Dispose is idempotent and leaves nothing behind on the host. */
export interface Testbed extends AsyncDisposable {
  /**
   * Prefix that runs a command in the testbed as root: `[...auxverb, 'ls', '/']`. Stdio passes through, the exit status
   * is the command's (255 becomes 253, since clients read 254 and 255 as "testbed lost"). Needs no environment.
   * Valid until the next {@link revert} or dispose; read it again after a revert.
   */
  readonly auxverb: Argv;
  readonly traits: readonly Trait[];
  /** Identity of the generation that was opened, e.g. `bookworm-amd64@3`. Announced as `golden-image-id=`. */
  readonly generationId?: string;
  /** Set only where testbed and host are one security context (null): the testbed's `/` as a host path. */
  readonly rootOnHost?: string;
  /**
   * Makes a directory as `mkdir -m MODE` would, without starting a process in the testbed. A signal does not wait for it:
   * dispose may come while it is under way, and ends it.
   * @param owner the user of the trait `suggested-normal-user`; default: root
   */
  makeDirectory?(path: string, mode: number, owner?: string): Promise<void>;
  /**
   * Opens its `/`, where the host sees that: a folder, which the caller closes. What is in it is the testbed's own, which
   * may change it at any moment. Undefined when it cannot be had.
   */
  openRoot?(): Promise<number | undefined>;
  /** Throws away every change since open, on the same generation. */
  revert?(signal: AbortSignal): Promise<void>;
  /**
   * Settles when the system is up again, with its disk as it was. What is in memory, and /run and /tmp, may be gone.
   * @param who reboots it: we, or something in the testbed, which may have done so already
   */
  reboot?(who: 'server' | 'testbed', signal: AbortSignal): Promise<void>;
  /**
   * The client closes it, in order: called before dispose, and only then; who has it throws its changes away without that. A
   * refusal is told, and closes all the same.
   */
  release?(signal: AbortSignal): Promise<void>;
}

/** A testbed whose changes can become the next generation of its image. Dispose without commit discards them. */
export interface GoldenTestbed extends Testbed {
  readonly generationId: string;
  /**
   * Stops the testbed, verifies, and publishes its changes by one atomic step. Whatever the outcome the testbed is
   * closed afterwards. @throws {GoldenRefusal} when nothing was published and the old image is intact.
   */
  commit(signal: AbortSignal): Promise<void>;
}

/**
 * What the protocol's server serves: one image on one backend. Made by the roots, which join a backend to the images.
 */
export interface TestbedSource {
  /** For diagnostics: `overlay`. */
  readonly name: string;
  /** Traits announced while no testbed is open. */
  readonly traits: readonly Trait[];
  readonly revert: boolean;
  readonly reboot: boolean;
  /**
   * Begins what the next open would have to wait for. Dispose ends what was not used, and waits for that; were this process
   * killed, it would end by itself.
   */
  prepare?(): AsyncDisposable;
  /** Opens a disposable testbed on the current generation. @throws {TestbedError} */
  open(signal: AbortSignal): Promise<Testbed>;
  /** Opens a testbed for writing. Present means: announces `golden-image`. @throws {GoldenRefusal|TestbedError} */
  openGolden?(signal: AbortSignal): Promise<GoldenTestbed>;
  /** With which a server ends that was told to quit; default 0. */
  exitStatus?(): number;
}

/** Reply words of the golden verbs that leave the session usable and Closed (docs/golden-verb.md). */
export type GoldenRefusalWord = 'golden-locked' | 'golden-unavailable' | 'commit-failed' | 'golden-changed';

/** The image was not written, and is as it was. `message` says why, for stderr. */
export class GoldenRefusal extends Error {
  override readonly name = 'GoldenRefusal';
  readonly word: GoldenRefusalWord;
  constructor(word: GoldenRefusalWord, message: string, options?: ErrorOptions) {
    super(message, options);
    this.word = word;
  }
}

/** How a server ended: its exit code, or the signal that killed it. */
export type ServerExit =
  | { readonly kind: 'code'; readonly code: number }
  | { readonly kind: 'signal'; readonly signal: NodeJS.Signals };

/** A started server, seen from the client's side. */
export interface Channel {
  /** Client to server. */
  readonly toServer: Writable;
  /** Server to client. */
  readonly fromServer: Readable;
  /** Settles when the server has ended and cleaned up; never rejects. */
  readonly exited: Promise<ServerExit>;
  /** Asks the server to clean up and end, as SIGTERM would. Idempotent. */
  readonly terminate: () => void;
  /** Ends it at once, and whatever it started with it: for one that {@link terminate} does not end. */
  readonly kill?: () => void;
  /** The end of what it said on standard error, for error messages; may be empty. */
  readonly lastWords?: () => string;
}

/** Something that speaks adt-virt: native backends and foreign programs alike. All that the worker sees. */
export interface VirtServer {
  readonly name: string;
  /** Why it cannot work on this host, in one line that a person can act on; undefined when it can. */
  unavailable(): Promise<string | undefined>;
  /** @param log gets lines of diagnostics @param signal ends the server, which cleans up */
  start(log: (line: string) => void, signal: AbortSignal): Promise<Channel>;
}
