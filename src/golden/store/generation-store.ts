/**
 * What publishing needs of the place that keeps the generations of an image: a head, a claim, and three steps of which each
 * happens at one moment or not at all, whoever is killed. Nothing else of goldbed moves a head. directory-store.ts is the
 * one that there is; another (an object store with conditional writes) would have to do the same.
 */
import type { ImageName } from '../../protocol/image.ts';
import type { GoldenRefusal } from '../../protocol/testbed.ts';

export interface GenerationStore {
  readonly image: ImageName;
  /** The number of the current generation; undefined when the image does not exist (yet). */
  head(): Promise<number | undefined>;
  /** The highest fence that was ever registered here: the floor for the next lease. 0 when there was none. */
  highestFence(): Promise<number>;
  /**
   * Shuts out every writer with a smaller fence.
   * @throws {GoldenRefusal} `golden-locked` unless the fence is greater than every one before
   */
  register(writer: Writer, signal?: AbortSignal): Promise<Registered>;
  /**
   * Compare and swap: if the claim is the writer's still, and the head its base, what was assembled becomes the generation,
   * and current. Once it has begun to write it listens to no signal: the caller wants a clear answer.
   * @throws {GoldenRefusal} `golden-changed`: somebody else took over, or moved the head; nothing was published
   */
  commit(assembled: Assembled, signal?: AbortSignal): Promise<void>;
  /**
   * Makes a generation current that was published before. @param choose tells which, while nobody else changes anything;
   * what it throws ends it, and nothing was changed @returns what it chose
   */
  makeCurrent(choose: () => Promise<number>, signal?: AbortSignal): Promise<number>;
  /** Undefined while the claim is the writer's; else the refusal that names who has it. */
  takenOver(writer: Writer): Promise<GoldenRefusal | undefined>;
}

export interface Writer {
  /** From the lease. */
  readonly fence: number;
  /** For people: who writes. */
  readonly by: string;
  /** For tests: called between any two steps that reach the disk. */
  readonly reached?: (step: WriteStep) => Promise<void> | void;
}

/** What a writer begins on. */
export interface Registered {
  /** The current generation. */
  readonly base: number | undefined;
  /** The number that the next one will have: none has had it. */
  readonly next: number;
}

/** A generation that is whole, and on the disk, but not in its place. */
export interface Assembled extends Registered {
  readonly writer: Writer;
  /** Absolute; moved away by a commit. */
  readonly folder: string;
}

/** Steps in their order, each named after what has just happened. */
export type WriteStep =
  | 'registered'
  | 'candidate-made'
  | 'digested'
  | 'assembled'
  | 'locked'
  | 'announced'
  | 'moved'
  | 'published'
  | 'settled';
