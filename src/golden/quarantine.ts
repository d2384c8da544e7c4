/** Generations that turned out bad: not current any more, and not to become it again by rolling back. */
import { UsageError } from '../protocol/errors.ts';
import { layoutOf, type ImageStore } from './layout.ts';
import { forgetFailure } from './looked.ts';
import { livePins } from './pins.ts';
import type { GenerationRecord } from './record.ts';
import { readRemarks, writeRemarks, type Remark } from './remarks.ts';
import { generationNumbers, headGeneration, readGeneration, readHead } from './store.ts';
import { directoryStore } from './store/directory-store.ts';

/**
 * Marks it, and if it is current makes the newest older good one current, in this order: killed in between, it is marked,
 * and doing it again does the rest.
 * @returns the generation that is current now
 * @throws {UsageError} no such image or generation; or there is none to go back to, and then nothing was done
 */
export async function quarantine(
  store: ImageStore,
  image: string,
  bad: Omit<Remark, 'since'>,
): Promise<GenerationRecord> {
  await readHead(store, image);
  const layout = layoutOf(store, image);
  const choose = async (): Promise<number> => {
    await readGeneration(layout, bad.generation);
    const others = (await readRemarks(layout.quarantined)).filter(({ generation }) => generation !== bad.generation);
    const excluded = new Set([...others.map(({ generation }) => generation), bad.generation]);
    const head = await headGeneration(layout);
    const good = (await generationNumbers(layout)).filter((number) => !excluded.has(number) && number < bad.generation);
    const next = head === bad.generation ? good.at(-1) : head;
    if (next === undefined) {
      throw new UsageError(
        image,
        `${image} has no good generation older than ${bad.generation}: goldbed image replace ${image}`,
      );
    }
    await writeRemarks(layout.quarantined, [...others, { ...bad, since: new Date().toISOString() }]);
    return next;
  };
  const current = await directoryStore(store, image).makeCurrent(choose);
  await forgetFailure(layout);
  return readGeneration(layout, current);
}

export interface JobsOnGeneration {
  readonly digest: string;
  /** Ids of runs whose attempts on this host pin it now. */
  readonly jobs: ReadonlySet<string>;
}

/** @throws {UsageError} when there is no such image or generation */
export async function jobsOn(store: ImageStore, image: string, generation: number): Promise<JobsOnGeneration> {
  const layout = layoutOf(store, image);
  const { digest } = await readGeneration(layout, generation);
  const pins = (await livePins(layout)).filter((pin) => pin.generation === generation);
  return { digest, jobs: new Set(pins.flatMap(({ job }) => (job === undefined ? [] : [job]))) };
}
