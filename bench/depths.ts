/** What a deep stack of layers costs whoever opens it: generations of several depths, opened in turn. */
import * as z from 'zod';
import { check } from '../src/exec/run.ts';
import { flattenFrom } from '../src/golden/flatten-current.ts';
import { maxLayers } from '../src/golden/flatten.ts';
import { goldbed, imageName, runInSession } from './base-image.ts';
import type { Place } from './place.ts';
import { inTurn } from './results.ts';

/** Opens of each depth in a round: the differences are below a millisecond. */
const opens = 25;

const shownSchema = z.object({
  image: z.object({
    all: z.array(z.object({ record: z.object({ generation: z.number() }), depth: z.number() })),
  }),
});

/**
 * So many writes in a row, none of which is flattened aside, pass each depth once: the one after the deepest is whole again.
 * @param open opens the current generation once, and says how many milliseconds that took
 */
export async function measureDepths(
  place: Place,
  rounds: number,
  open: () => Promise<number>,
): Promise<Record<string, number[]>> {
  const image = (...args: string[]) => check([goldbed, 'image', ...args], { env: place.env, signal: place.signal });
  const known = async () => {
    const { stdout } = await image('show', imageName, '--json');
    return shownSchema.parse(JSON.parse(stdout)).image.all;
  };
  const keep = (generation: number | undefined) =>
    image('pin', imageName, String(generation), '--reason', 'bench').catch(() => {});
  await place.settle(); // nothing is flattened while generations are counted
  for (let i = 0; i < maxLayers; i += 1) {
    await keep((await known())[0]?.record.generation);
    await runInSession(place, 'open-golden', `echo ${i} >/root/depth-${i}`, '/dev/null');
  }
  const all = await known();
  const wanted = [1, flattenFrom, maxLayers].map((depth) => {
    const found = all.find((one) => one.depth === depth);
    if (found === undefined) throw new Error(`no generation stands on ${depth} layers`);
    return found;
  });
  const depths: Record<string, number[]> = {};
  for (let round = 0; round < rounds * opens; round += 1) {
    for (const { record, depth } of inTurn(wanted, round)) {
      await image('rollback', imageName, String(record.generation)).catch(() => {}); // it is current already
      (depths[`${depth} ${depth === 1 ? 'layer' : 'layers'}`] ??= []).push(await open());
    }
  }
  return depths;
}
