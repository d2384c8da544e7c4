/** The one testbed of a server: its state, and the changes that the verbs make to it. */
import { messageOf } from '../errors.ts';
import { GoldenRefusal, type GoldenTestbed, type Testbed, type TestbedSource } from '../testbed.ts';
import { ProtocolError } from './protocol-error.ts';
import { makeScratch, removeScratch, removeScratchAtTheEnd } from './scratch.ts';

export interface ServerOptions {
  /** Seconds for one copy; 0 for no limit. */
  readonly copyTimeout: number;
  /** Seconds for one commit, after which it is `commit-failed`; default: none. */
  readonly goldenTimeout?: number;
  /** Ends the server: the testbed is closed, and {@link serve} throws the signal's reason. */
  readonly signal: AbortSignal;
  /** Runs an interactive shell for the `shell` verb; without it there is none. */
  readonly shell?: (testbed: Testbed, directory: string, environment: readonly string[]) => Promise<void>;
}

interface OpenTestbed {
  readonly testbed: Testbed;
  readonly scratch: string;
}

/** The testbed and what belongs to it. */
export type State =
  | { readonly name: 'closed' }
  | { readonly name: 'open'; readonly testbed: Testbed; readonly scratch: string }
  | { readonly name: 'golden'; readonly testbed: GoldenTestbed; readonly scratch: string };

export class ServedTestbed {
  readonly source: TestbedSource;
  readonly options: ServerOptions;
  /** One line of diagnostics, for standard error. */
  readonly log: (line: string) => void;
  state: State = { name: 'closed' };
  #scratch: string | undefined;

  constructor(source: TestbedSource, options: ServerOptions, log: (line: string) => void) {
    this.source = source;
    this.options = options;
    this.log = log;
  }

  /** Opens and makes the scratch directory; closes again what cannot be used. */
  async open(golden: boolean): Promise<string> {
    if (this.state.name !== 'closed') throw new ProtocolError(`${golden ? 'open-golden' : 'open'} when already open`);
    const { signal } = this.options;
    const testbed = await (golden ? this.#openGolden() : this.source.open(signal));
    try {
      const scratch = await makeScratch(testbed, this.#scratch, signal);
      this.#scratch = scratch;
      this.state = isGolden(testbed) ? { name: 'golden', testbed, scratch } : { name: 'open', testbed, scratch };
      return scratch;
    } catch (error) {
      await testbed[Symbol.asyncDispose]();
      throw error;
    }
  }

  async revert(): Promise<string> {
    const { testbed, scratch } = this.opened('revert');
    if (!this.source.revert || testbed.revert === undefined) throw new ProtocolError('revert capability not available');
    const { signal } = this.options;
    if (!isDisposable(testbed)) await removeScratch(testbed, scratch, signal);
    await testbed.revert(signal);
    return makeScratch(testbed, scratch, signal);
  }

  /** @param released whether the client asked for it */
  async close(released = false): Promise<void> {
    const { testbed, scratch } = this.opened('close');
    this.state = { name: 'closed' };
    try {
      // what outlives the session is left as it was
      if (!this.#isThrownAway(testbed, released)) await removeScratchAtTheEnd(testbed, scratch);
      if (released) await testbed.release?.(this.options.signal);
    } finally {
      await testbed[Symbol.asyncDispose]();
    }
  }

  /** Whatever happens, the testbed is closed afterwards. @throws {GoldenRefusal} */
  async commit(): Promise<void> {
    if (this.state.name !== 'golden') throw new ProtocolError('commit-golden when no golden image is open');
    const { testbed } = this.state;
    const { signal, goldenTimeout = 0 } = this.options;
    const limit = goldenTimeout > 0 ? AbortSignal.timeout(goldenTimeout * 1000) : new AbortController().signal;
    try {
      const stop = AbortSignal.any([signal, limit]);
      await this.#removeOwn(this.state, stop);
      await testbed.commit(stop);
    } catch (error) {
      signal.throwIfAborted();
      if (!limit.aborted || error instanceof GoldenRefusal) throw error;
      throw new GoldenRefusal('commit-failed', `not done within ${goldenTimeout} s`, { cause: error });
    } finally {
      this.state = { name: 'closed' };
      await this.#closeAfterCommit(testbed);
    }
  }

  /** The open testbed. @throws {ProtocolError} */
  opened(verb: string): OpenTestbed {
    if (this.state.name === 'closed') throw new ProtocolError(`${verb} when not open`);
    return this.state;
  }

  /** Closes the testbed after the end. @returns false when that failed. Idempotent. */
  async cleanUp(): Promise<boolean> {
    if (this.state.name === 'closed') return true;
    try {
      await this.close();
      return true;
    } catch (error) {
      this.log(`goldbed-virt: failure: close: ${messageOf(error)}`);
      return false;
    }
  }

  /** What the server has put there must not become part of the image. @throws {GoldenRefusal} */
  async #removeOwn({ testbed, scratch }: OpenTestbed, signal: AbortSignal): Promise<void> {
    try {
      await removeScratch(testbed, scratch, signal);
    } catch (error) {
      signal.throwIfAborted();
      throw new GoldenRefusal('commit-failed', `cannot remove ${scratch}: ${messageOf(error)}`, { cause: error });
    }
  }

  /** Whether nothing of what is in it is seen after its end. */
  #isThrownAway(testbed: Testbed, released: boolean): boolean {
    if (testbed.release !== undefined) return !released;
    return this.source.revert && isDisposable(testbed);
  }

  /** The outcome of the commit is the one to tell: what was published stands. */
  async #closeAfterCommit(testbed: GoldenTestbed): Promise<void> {
    try {
      await testbed[Symbol.asyncDispose]();
    } catch (error) {
      this.log(`goldbed-virt: close after commit: ${messageOf(error)}`);
    }
  }

  async #openGolden(): Promise<GoldenTestbed> {
    if (this.source.openGolden === undefined) throw new ProtocolError('unknown command `open-golden`');
    return this.source.openGolden(this.options.signal);
  }
}

/** README.virtualisation-server: a revert that is not of the full system leaves /tmp and /home as they are. */
function isDisposable({ traits }: Testbed): boolean {
  return traits.includes('revert-full-system');
}

function isGolden(testbed: Testbed | GoldenTestbed): testbed is GoldenTestbed {
  return 'commit' in testbed;
}
