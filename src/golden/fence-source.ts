/** Where the right to write an image comes from: Redis for a fleet (lease.ts), a local lock for one host. */
import type { ImageName } from '../protocol/image.ts';

/** The right to write one image name, until disposed or lost. */
export interface WriteLease extends AsyncDisposable {
  /** Greater than every fence handed out before for this image. */
  readonly fence: number;
  /** Aborts with ImageLeaseLost as soon as the right is lost. */
  readonly signal: AbortSignal;
}

export interface FenceSource {
  /**
   * Waits for the right to write, as long as the source is configured to.
   * @param floor the fence will be greater: what the store knows, in case the source has forgotten
   * @throws {GoldenRefusal} `golden-locked` when somebody else still writes at the end of the wait
   */
  acquire(image: ImageName, floor: number, signal: AbortSignal): Promise<WriteLease>;
}
