/**
 * The golden image for clients that do not know the golden verbs: `open` works on it, and what they leave at `close` is
 * published only if there is evidence that it is good. Announces neither `revert` nor `golden-image`: to the client, its
 * changes persist (README.virtualisation-server).
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { packageFile } from '../exec/package-file.ts';
import { messageOf } from '../protocol/errors.ts';
import { GoldenRefusal, type Argv, type GoldenTestbed, type Testbed, type TestbedSource } from '../protocol/testbed.ts';
import { doubt, journalText, readJournal } from './evidence.ts';
import { insideState } from './inside-state.ts';
import { manifestInside, runInside } from './verify.ts';

export type Verdict =
  | { readonly status: 'published' | 'unchanged' }
  | { readonly status: 'discarded'; readonly reason: string };

/** How a write ended, for whoever notes it (ending.ts). */
export interface BridgeEnd {
  readonly verdict: Verdict;
  /** Somebody else wrote, or changed, the image: that says nothing about it. */
  readonly contended: boolean;
  /** The generation that it stood on. */
  readonly base: number;
  /** The commands that were run, each with its end. */
  readonly journal: string;
  /** As manifest.ts makes it, where the packages could be told. */
  readonly manifest: string | undefined;
}

export interface Bridge extends AsyncDisposable {
  /** What the client gets. One session. */
  readonly source: TestbedSource;
  /** How the session ended; `discarded` as long as it has not been closed in order. */
  verdict(): Verdict;
  /** With `stage`: publishes what was closed, unless there is doubt. */
  publish(signal: AbortSignal): Promise<Verdict>;
  /** With `stage`: throws it away, for a reason of the caller's. */
  refuse(reason: string, signal: AbortSignal): Promise<Verdict>;
}

/**
 * @param when `commit`: at the client's `close`; `stage`: when {@link Bridge.publish} is called
 * @param log gets the verdict's reason
 * @param onEnd told how a write ended that was closed in order; never throws
 */
export function bridge(
  source: TestbedSource,
  when: 'commit' | 'stage',
  log: (line: string) => void,
  onEnd?: (end: BridgeEnd) => Promise<void>,
): Bridge {
  let session: BridgedSession | undefined;
  let verdict: Verdict = { status: 'discarded', reason: 'no session was opened and closed' };
  const publish = async (signal: AbortSignal): Promise<Verdict> => {
    if (session?.closed === true) {
      const end = await session.publish(signal);
      verdict = end.verdict;
      await onEnd?.(end);
    }
    return tell();
  };
  const refuse = async (reason: string, signal: AbortSignal): Promise<Verdict> => {
    verdict = { status: 'discarded', reason };
    if (session?.closed === true) await onEnd?.(await session.describe(verdict, false, signal));
    return tell();
  };
  const tell = (): Verdict => {
    if (verdict.status === 'discarded') log(`goldbed: nothing was published: ${verdict.reason}`);
    return verdict;
  };
  const traits = source.traits.filter((trait) => trait === 'root-on-testbed' || trait.startsWith('isolation-'));
  return {
    source: {
      name: source.name,
      traits,
      revert: false,
      reboot: source.reboot,
      async open(signal) {
        if (session !== undefined) throw new GoldenRefusal('golden-unavailable', 'one session for each update');
        if (source.openGolden === undefined)
          throw new GoldenRefusal('golden-unavailable', 'the image cannot be written');
        const golden = await source.openGolden(signal);
        session = await BridgedSession.begin(golden, signal);
        return session.testbed(traits, when === 'commit' ? publish : undefined);
      },
      exitStatus: () => (when === 'commit' && verdict.status === 'discarded' ? 1 : 0),
    },
    verdict: () => verdict,
    publish,
    refuse,
    [Symbol.asyncDispose]: async () => session?.end(),
  };
}

class BridgedSession {
  /** The client has closed it, in order. */
  closed = false;
  readonly #golden: GoldenTestbed;
  readonly #journal: string;
  readonly #before: string;

  private constructor(golden: GoldenTestbed, journal: string, before: string) {
    this.#golden = golden;
    this.#journal = journal;
    this.#before = before;
  }

  static async begin(golden: GoldenTestbed, signal: AbortSignal): Promise<BridgedSession> {
    const journal = await mkdtemp(path.join(tmpdir(), 'goldbed-journal-'));
    try {
      return new BridgedSession(golden, journal, (await insideState(golden.auxverb, signal)).everything);
    } catch (error) {
      await rm(journal, { recursive: true, force: true });
      await golden[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** @param atClose publishes at the client's close; without it the session stays as it is until {@link publish} */
  testbed(traits: Testbed['traits'], atClose?: (signal: AbortSignal) => Promise<unknown>): Testbed {
    const golden = this.#golden;
    const journal = this.#journal;
    const makeDirectory = golden.makeDirectory?.bind(golden);
    const reboot = golden.reboot?.bind(golden);
    return {
      traits,
      get auxverb() {
        return journaled(journal, golden.auxverb);
      },
      ...(makeDirectory === undefined ? {} : { makeDirectory }),
      ...(reboot === undefined ? {} : { reboot }),
      release: async (signal) => {
        this.closed = true;
        await atClose?.(signal);
      },
      // what is staged waits for its verdict; what was not closed in order is thrown away at once
      [Symbol.asyncDispose]: async () => {
        if (!this.closed || atClose !== undefined) await this.end();
      },
    };
  }

  async publish(signal: AbortSignal): Promise<BridgeEnd> {
    const seen = await this.describe({ status: 'unchanged' }, false, signal);
    const ended = (verdict: Verdict, contended = false): BridgeEnd => ({ ...seen, verdict, contended });
    try {
      const reason = doubt(await readJournal(this.#journal)) ?? (await this.#lockLeft(signal));
      if (reason !== undefined) return ended({ status: 'discarded', reason });
      const { everything } = await insideState(this.#golden.auxverb, signal);
      if (everything === this.#before) return seen;
      await this.#golden.commit(signal);
      return ended({ status: 'published' });
    } catch (error) {
      signal.throwIfAborted();
      const contended = error instanceof GoldenRefusal && error.word !== 'commit-failed';
      return ended({ status: 'discarded', reason: messageOf(error) }, contended);
    }
  }

  async describe(verdict: Verdict, contended: boolean, signal: AbortSignal): Promise<BridgeEnd> {
    const { generationId, auxverb } = this.#golden;
    const base = Number(generationId.slice(generationId.lastIndexOf('@') + 1));
    const commands = await readJournal(this.#journal).catch(() => []);
    const manifest = await manifestInside(auxverb, signal).catch(() => undefined); // dpkg itself may be broken
    return { verdict, contended, base, journal: journalText(commands), manifest };
  }

  async end(): Promise<void> {
    await this.#golden[Symbol.asyncDispose]();
    await rm(this.#journal, { recursive: true, force: true });
  }

  /** sbuild's own lock in the testbed stays behind when it is killed. */
  async #lockLeft(signal: AbortSignal): Promise<string | undefined> {
    const { code } = await runInside(this.#golden.auxverb, ['/usr/bin/test', '!', '-e', '/var/lock/sbuild'], signal);
    return code === 0 ? undefined : 'sbuild did not release its lock in the testbed';
  }
}

function journaled(folder: string, enter: Argv): Argv {
  return ['/usr/bin/perl', '-f', packageFile('libexec/journal-enter'), folder, String(enter.length), '--', ...enter];
}
