/**
 * Writers that pause, crash, lose their lease or get a fence twice, in any order, on a real store: nobody's published
 * work is lost, and nobody is told anything untrue.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { GoldenRefusal } from '../../../src/protocol/testbed.ts';
import { beginWrite, type Candidate } from '../../../src/golden/candidate.ts';
import { directoryStore } from '../../../src/golden/store/directory-store.ts';
import { layoutOf } from '../../../src/golden/layout.ts';
import { rollBack } from '../../../src/golden/roll-back.ts';
import { generationNumbers, readGeneration, readHead } from '../../../src/golden/store.ts';
import { chaosSeed } from '../../seed.ts';
import { details, fill, never, publishFiles, temporaryState, type TemporaryState } from './fixtures/images.ts';

type Action =
  | { readonly do: 'begin'; readonly forgetful: boolean }
  | { readonly do: 'publish'; readonly which: number; readonly crashAt?: string }
  | { readonly do: 'discard'; readonly which: number }
  | { readonly do: 'roll-back' };

const which = fc.nat({ max: 2 });
const crashAt = fc.constantFrom('digested', 'assembled', 'locked', 'announced', 'moved', 'published');
const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant('begin' as const), forgetful: fc.boolean() }) },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('publish' as const), which, crashAt }, { requiredKeys: ['do', 'which'] }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('discard' as const), which }) },
  { weight: 1, arbitrary: fc.constant({ do: 'roll-back' as const }) },
);

class Crash extends Error {}

test('every interleaving keeps the chain', { timeout: 60_000 }, async () => {
  const property = fc.asyncProperty(fc.array(action, { minLength: 3, maxLength: 9 }), async (actions) => {
    await using state = await temporaryState();
    await publishFiles(state, 'sid', { base: '' });
    const world = new World(state);
    for (const each of actions) await world.step(each);
    await world.check();
  });
  await fc.assert(property, { numRuns: 12, seed: chaosSeed('interleavings') });
});

/** What a spectator knows: the head after each step, and what each writer was told. */
class World {
  readonly #state: TemporaryState;
  readonly #open: { candidate: Candidate; crash: { at?: string } }[] = [];
  readonly #heads = [1];
  #fence = 1;

  constructor(state: TemporaryState) {
    this.#state = state;
  }

  async step(each: Action): Promise<void> {
    if (each.do === 'begin') await this.#begin(each.forgetful);
    else if (each.do === 'roll-back') await this.#rollBack();
    else {
      const [writer] = this.#open.splice(each.which, 1);
      if (writer === undefined) return;
      if (each.do === 'publish') await this.#publish(writer, each.crashAt);
      else await writer.candidate[Symbol.asyncDispose]();
    }
  }

  /** A source that has forgotten starts again at 1, and the store refuses until the floor is used. */
  async #begin(forgetful: boolean): Promise<void> {
    const highest = await directoryStore(this.#state, 'sid').highestFence();
    this.#fence = forgetful ? 1 : Math.max(highest, this.#fence) + 1;
    const crash: { at?: string } = {};
    const reached = (step: string): void => {
      if (step === crash.at) throw new Crash(step);
    };
    const begun = beginWrite(this.#state, 'sid', { fence: this.#fence, by: `writer ${this.#fence}`, reached });
    if (this.#fence <= highest) await expect(begun).rejects.toMatchObject({ word: 'golden-locked' });
    else this.#open.push({ candidate: await begun, crash });
  }

  async #publish({ candidate, crash }: { candidate: Candidate; crash: { at?: string } }, at?: string): Promise<void> {
    if (at !== undefined) crash.at = at;
    const before = await readHead(this.#state, 'sid');
    const mayPublish =
      (await directoryStore(this.#state, 'sid').highestFence()) === candidate.fence &&
      candidate.base?.generation === before.generation;
    const told = await this.#attempt(candidate);
    const after = await readHead(this.#state, 'sid');
    if (told === 'published' || (told === 'crashed' && after.generation !== before.generation)) {
      expect(mayPublish).toBe(true);
      expect([after.parent, after.by]).toEqual([before.generation, `writer ${candidate.fence}`]);
      expect(this.#heads).not.toContain(after.generation);
      this.#heads.push(after.generation);
    } else {
      expect(after).toEqual(before);
      if (told === 'refused') expect(mayPublish).toBe(false);
    }
  }

  async #attempt(candidate: Candidate): Promise<'published' | 'refused' | 'crashed'> {
    try {
      await fill(candidate, { marker: String(candidate.fence) });
      await candidate.publish(details, never);
      return 'published';
    } catch (error) {
      if (error instanceof Crash) return 'crashed';
      if (error instanceof GoldenRefusal) return 'refused';
      // an older writer finds its folder gone: it was shut out
      expect((error as Error).message).toMatch(/ENOENT|No such file/);
      return 'refused';
    }
  }

  async #rollBack(): Promise<void> {
    await rollBack(this.#state, 'sid', this.#heads[0] ?? 1);
  }

  /** Everything that was ever current is still there, and nothing else is. */
  async check(): Promise<void> {
    await rollBack(this.#state, 'sid', 1); // settles what a crash left
    const layout = layoutOf(this.#state, 'sid');
    const records = await Promise.all(this.#heads.map((generation) => readGeneration(layout, generation)));
    expect(records.map((record) => record.generation)).toEqual(this.#heads);
    expect(await generationNumbers(layout)).toEqual(this.#heads.toSorted((one, other) => one - other));
  }
}
