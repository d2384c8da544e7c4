/**
 * The error rule: if the package is to blame, return an Outcome; if the world is to blame, throw one of these.
 * ARCHITECTURE.md, "Whose fault", says what each one becomes in Redis and as an exit code.
 */

/** Exit codes of ours, from sysexits(3): neither sbuild (0-3) nor autopkgtest (0-20) uses them. */
export const exitCodes = {
  usage: 64,
  unavailable: 69,
  internal: 70,
  notFinished: 75,
  infrastructure: 76,
  config: 78,
  interrupted: 130,
} as const;

/** What was asked cannot be done, and asking again will not help. `path` names the file, key or word at fault. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
  readonly path: string;
  constructor(path: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.path = path;
  }
}

/** Redis, or a server binary, cannot be reached or must not be used. */
export class UnavailableError extends Error {
  override readonly name = 'UnavailableError';
}

/** Which step of a session the testbed failed in. */
export type TestbedStep = 'start' | 'open' | 'run' | 'copy' | 'revert' | 'reboot' | 'commit' | 'close' | 'protocol';

/** The testbed failed, not the package. Worth a retry elsewhere. */
export class TestbedError extends Error {
  override readonly name: string = 'TestbedError';
  readonly step: TestbedStep;
  readonly backend: string;
  constructor(step: TestbedStep, backend: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.step = step;
    this.backend = backend;
  }
}

/** This host cannot do it, though nothing is wrong with the job: an input is not there, the disk is full. Worth another host. */
export class HostError extends Error {
  override readonly name = 'HostError';
}

/**
 * The image could not be written just now: somebody else writes it, or wrote it meanwhile. It is as it was, and neither
 * this host nor its testbeds are to blame.
 */
export class ImageError extends Error {
  override readonly name: string = 'ImageError';
}

/** The right to write an image is lost, not the job: its claim may be as good as ever. */
export class ImageLeaseLost extends ImageError {
  override readonly name = 'ImageLeaseLost';
}

/** The image is older than the job allows, and could not be refreshed. The refresh has had its own retries. */
export class RefreshFailed extends Error {
  override readonly name = 'RefreshFailed';
}

/** Why a running job was stopped from outside. Also the `reason` of the job's AbortSignal. */
export type InterruptionReason = 'cancelled' | 'deadline' | 'shutdown';

export class Interruption extends Error {
  override readonly name = 'Interruption';
  readonly reason: InterruptionReason;
  constructor(reason: InterruptionReason, message: string = reason) {
    super(message);
    this.reason = reason;
  }
}

/** The claim of a job is lost: another owner may already run it. Touch nothing. */
export class LeaseLost extends Error {
  override readonly name = 'LeaseLost';
}

/** The message of anything that was thrown, in one line. */
export function messageOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replaceAll(/\s*\n\s*/g, ' ').trim();
}
