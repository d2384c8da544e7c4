/**
 * A disk that is full from some moment on, and one that is read-only: the image is the old one or the next one, it opens
 * as soon as there is room, and the next update publishes.
 */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { beginWrite } from '../../src/golden/candidate.ts';
import { directoryStore } from '../../src/golden/store/directory-store.ts';
import type { WriteStep } from '../../src/golden/store/generation-store.ts';
import { readManifest, readHead } from '../../src/golden/store.ts';
import { layoutOf } from '../../src/golden/layout.ts';
import { rollBack, verifyGeneration } from '../../src/golden/index.ts';
import { dice, faults, type Dice } from './fixtures/dice.ts';
import { describeWith } from './fixtures/requirements.ts';
import { makeUpdater, type Updater } from './fixtures/updater.ts';
import { Victim, victimImage } from './fixtures/victim.ts';

const unavailable = process.getuid?.() === 0 ? await overlayBackend(stateAt('/nonexistent')).unavailable() : 'not root';
const never = new AbortController().signal;
const rounds = Math.max(4, Math.round(faults(20) / 3));

/** Kilobytes that are left; what an update takes is some megabytes, and its last steps a few kilobytes. */
const room = (random: Dice): number => 4 * 2000 ** random.roll(1);

describeWith('overlay', unavailable, 'a full disk', () => {
  let victim: Victim;
  let updater: Updater;
  beforeAll(async () => {
    updater = await makeUpdater();
    victim = await Victim.make();
  });
  afterAll(async () => {
    await victim?.[Symbol.asyncDispose]();
    await updater?.[Symbol.asyncDispose]();
  });
  beforeEach(() => rollBack(victim.state, victimImage, victim.old.generation));

  test(`${rounds} updates with little room`, { timeout: 60_000 + rounds * 30_000 }, async () => {
    const random = dice('updates on a full disk');
    const ends: string[] = [];
    for (let round = 0; round < rounds; round += 1) {
      const kilobytes = room(random);
      const empty = await victim.fill(kilobytes);
      const id = `full-${round}`;
      const said = await updater.start(victimImage, 'overlay', id, victim.env).ended;
      await empty();
      ends.push(`${Math.round(kilobytes)} KB: ${said?.status ?? 'died'}: ${said?.reason ?? ''}`);
      const isNew = await victim.survived('overlay', id, { killed: said === undefined });
      expect([isNew, ends.at(-1)]).toEqual([said?.status === 'published', ends.at(-1)]);
    }
    process.stderr.write(`updates on a full disk:\n  ${ends.join('\n  ')}\n`);
    const last = updater.start(victimImage, 'overlay', 'full-last', victim.env);
    expect(await last.ended).toMatchObject({ status: 'published' });
    expect(await victim.survived('overlay', 'full-last', { killed: false })).toBe(true);
  });

  const steps: Record<WriteStep, true> = {
    registered: true,
    'candidate-made': true,
    digested: true,
    assembled: true,
    locked: true,
    announced: true,
    moved: true,
    published: true,
    settled: true,
  };

  test.each(Object.keys(steps) as WriteStep[])('from the moment on in which a writer has %s', async (step) => {
    const random = dice(`full when ${step}`);
    for (const kilobytes of [0, random.roll(8), random.roll(40)]) {
      const { state, old } = victim;
      const { recipe } = old;
      const manifest = await readManifest(layoutOf(state, victimImage), old.generation);
      const details = { strategy: 'upgrade' as const, recipe, manifest, tools: {}, sources: [], verified: [] };
      let empty = async (): Promise<void> => {};
      const reached = async (now: WriteStep): Promise<void> => {
        if (now === step) empty = await victim.fill(kilobytes);
      };
      const fence = (await directoryStore(state, victimImage).highestFence()) + 1;
      const write = async (): Promise<unknown> => {
        await using candidate = await beginWrite(state, victimImage, { fence, by: randomUUID(), reached });
        return await candidate.publish(details, never);
      };
      const failure = await write().then(
        () => undefined,
        (error: unknown) => error,
      );
      await empty();
      const head = await readHead(state, victimImage);
      const isNew = head.generation !== old.generation;
      if (!isNew) expect(head).toEqual(old);
      else expect(head.parent).toBe(old.generation);
      if (failure === undefined) expect(isNew).toBe(true);
      expect((await verifyGeneration(state, victimImage, undefined, never)).damaged).toEqual([]);
      await rollBack(state, victimImage, old.generation);
      await victim.leavesNothing();
    }
  });
});
