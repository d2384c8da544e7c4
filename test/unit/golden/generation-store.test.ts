/**
 * The store's contract (src/golden/store/generation-store.ts): whatever is asked of it, in whatever order, the directory
 * answers as the store in memory does, also when writers die within a step and others go on.
 */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { messageOf } from '../../../src/protocol/errors.ts';
import { layoutOf } from '../../../src/golden/layout.ts';
import { directoryStore } from '../../../src/golden/store/directory-store.ts';
import type { GenerationStore, Registered, WriteStep, Writer } from '../../../src/golden/store/generation-store.ts';
import { chaosSeed } from '../../seed.ts';
import { memoryStore } from './fixtures/memory-store.ts';
import { temporaryState } from './fixtures/images.ts';

type Action =
  | { readonly do: 'register'; readonly fence: number }
  | { readonly do: 'commit'; readonly which: number; readonly dies?: WriteStep }
  | { readonly do: 'go back' };

class Death extends Error {}

const which = fc.nat({ max: 3 });
const dies = fc.constantFrom<WriteStep>('locked', 'announced', 'moved', 'published');
const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant('register' as const), fence: fc.integer({ min: 1, max: 20 }) }) },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('commit' as const), which, dies }, { requiredKeys: ['do', 'which'] }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('go back' as const) }) },
);

interface Write {
  /** Where the next commit ends. */
  dies?: WriteStep | undefined;
  readonly writer: Writer;
  readonly registered: Registered;
}

/** One store, asked by one crowd of writers. */
class Asked {
  readonly #store: GenerationStore;
  readonly #folder: () => Promise<string>;
  readonly #writes: Write[] = [];
  #first: number | undefined;

  constructor(store: GenerationStore, folder: () => Promise<string>) {
    this.#store = store;
    this.#folder = folder;
  }

  async answer(asked: Action): Promise<unknown> {
    const answer = await this.#ask(asked).catch((error: unknown) => messageOf(error));
    return { answer, head: await this.#store.head(), fence: await this.#store.highestFence() };
  }

  async #ask(asked: Action): Promise<unknown> {
    if (asked.do === 'register') return this.#register(asked.fence);
    if (asked.do === 'go back') {
      const back = this.#first;
      return back === undefined ? 'nothing to go back to' : this.#store.makeCurrent(async () => back);
    }
    const write = this.#writes[asked.which];
    if (write === undefined) return 'nobody';
    write.dies = asked.dies;
    const { writer, registered } = write;
    await this.#store.commit({ ...registered, writer, folder: await this.#folder() });
    this.#first ??= registered.next;
    return this.#store.takenOver(writer);
  }

  async #register(fence: number): Promise<Registered> {
    const writes = this.#writes;
    const reached = (step: WriteStep): void => {
      if (step === writes.find(({ writer }) => writer.fence === fence)?.dies) throw new Death(step);
    };
    const writer = { fence, by: `writer ${fence}`, reached };
    const registered = await this.#store.register(writer);
    writes.push({ writer, registered });
    return registered;
  }
}

test('a directory answers as the store in memory does', { timeout: 120_000 }, async () => {
  const property = fc.asyncProperty(fc.array(action, { minLength: 3, maxLength: 12 }), async (actions) => {
    await using state = await temporaryState();
    const { work } = layoutOf(state, 'sid');
    let made = 0;
    const folder = async (): Promise<string> => {
      const assembled = path.join(work, String((made += 1)));
      await mkdir(assembled, { recursive: true });
      return assembled;
    };
    const directory = new Asked(directoryStore(state, 'sid'), folder);
    const memory = new Asked(memoryStore('sid'), async () => '');
    for (const each of actions) expect(await directory.answer(each)).toEqual(await memory.answer(each));
  });
  await fc.assert(property, { numRuns: 15, seed: chaosSeed('store contract') });
});
