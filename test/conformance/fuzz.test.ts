/**
 * Random conversations with the real goldbed-virt on a real image, ended in every way, also in the middle: what it
 * answers, how it ends, and that nothing is left. test/unit/adt-virt/fuzz.test.ts does more of them in less time.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { conversation } from '../unit/adt-virt/fixtures/fuzz-conversation.ts';
import { fuzzParameters } from '../unit/adt-virt/fixtures/fuzz-parameters.ts';
import { FuzzWorld, places } from './fixtures/fuzz-world.ts';
import { describeWith } from './fixtures/requirements.ts';

const unavailable = await overlayBackend(stateAt('/nonexistent')).unavailable();

/** Beyond it, the image is made anew: each layer makes opening slower, and flattening takes seconds. */
const maxGenerations = 6;

describeWith('overlay', unavailable, 'fuzzing', () => {
  test('random conversations', { timeout: 3_600_000 }, async () => {
    let world = await FuzzWorld.make();
    const property = fc.asyncProperty(conversation({ places, maxCommands: 8, maxDelay: 400 }), async (one) => {
      expect(await world.complaints(one)).toEqual([]);
      if (world.generation <= maxGenerations) return;
      expect(await world.damaged()).toEqual([]);
      await world[Symbol.asyncDispose]();
      world = await FuzzWorld.make();
    });
    try {
      await fc.assert(property, fuzzParameters('conformance fuzz', 60, 60_000));
      expect(await world.damaged()).toEqual([]);
    } finally {
      await world[Symbol.asyncDispose]();
    }
  });
});
