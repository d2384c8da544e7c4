/** What people ask about images: the data of `image ls` and `image show`. Plain JSON. */
import { isFlattening } from './flatten-current.ts';
import { readClaim } from './store/claim.ts';
import { lastLook } from './freshness.ts';
import { layoutOf, type ImageLayout, type ImageStore } from './layout.ts';
import { failedCandidates, type FailedCandidate } from './failed.ts';
import { readLooked, type Looked } from './looked.ts';
import { livePins, type Pin } from './pins.ts';
import type { GenerationRecord } from './record.ts';
import { readRemarks, type Remark } from './remarks.ts';
import { readFlat, stackOf } from './stack.ts';
import { generationNumbers, imageNames, readGeneration, readHead } from './store.ts';
import { fencesAtWork } from './work-folder.ts';

export interface ImageSummary {
  readonly name: string;
  readonly head: GenerationRecord;
  /** Seconds since the head was made, or since an update last found it up to date: whichever is less. */
  readonly age: number;
  /** How many there are on disk. */
  readonly generations: number;
  /** Of all generations on disk, each layer once. */
  readonly bytes: number;
  /** Sessions on any generation. */
  readonly sessions: number;
  /** Who of this host writes it now. */
  readonly writer?: ImageWriter;
  readonly looked: Looked;
}

export interface ImageWriter {
  readonly owner: string;
  readonly fence: number;
  /** Milliseconds since the epoch. */
  readonly since: number;
}

export interface ImageDetails extends ImageSummary {
  /** What is left of candidates that were not published, newest first. */
  readonly failed: readonly FailedCandidate[];
  readonly all: readonly GenerationDetails[];
}

export interface GenerationDetails {
  readonly record: GenerationRecord;
  readonly current: boolean;
  /** Layers that a session which opens it now stands on: fewer than it was published with, once it has been flattened. */
  readonly depth: number;
  readonly pins: readonly Pin[];
  /** Somebody keeps it. */
  readonly kept?: Remark;
  /** It turned out bad. */
  readonly quarantined?: Remark;
}

export async function listImages(store: ImageStore): Promise<ImageSummary[]> {
  return Promise.all((await imageNames(store)).map((name) => summaryOf(store, name)));
}

/** Generations newest first. @throws {UsageError} when there is no such image */
export async function showImage(store: ImageStore, image: string): Promise<ImageDetails> {
  const layout = layoutOf(store, image);
  const summary = await summaryOf(store, image);
  const pins = await livePins(layout);
  const [keeping, bad] = [await readRemarks(layout.kept), await readRemarks(layout.quarantined)];
  const all = (await publishedRecords(layout, summary.head)).map((record) => {
    const kept = keeping.find(({ generation }) => generation === record.generation);
    const quarantined = bad.find(({ generation }) => generation === record.generation);
    return {
      record,
      current: record.generation === summary.head.generation,
      depth: stackOf(layout, record).length,
      pins: pins.filter((pin) => pin.generation === record.generation),
      ...(kept === undefined ? {} : { kept }),
      ...(quarantined === undefined ? {} : { quarantined }),
    };
  });
  return { ...summary, all: all.toReversed(), failed: await failedCandidates(layout) };
}

async function summaryOf(store: ImageStore, image: string): Promise<ImageSummary> {
  const layout = layoutOf(store, image);
  const head = await readHead(store, image);
  const records = await publishedRecords(layout, head);
  const own = records.flatMap(({ generation, layers }) => [
    layers.at(-1)?.bytes ?? 0,
    readFlat(layout, generation)?.layer.bytes ?? 0,
  ]);
  const looked = await readLooked(layout);
  const pins = await livePins(layout);
  const writer = await currentWriter(layout, pins);
  return {
    name: layout.image,
    head,
    age: Math.max(0, Math.round((Date.now() - lastLook(head, looked)) / 1000)),
    generations: records.length,
    bytes: own.reduce((sum, bytes) => sum + bytes, 0),
    sessions: pins.filter((pin) => !pin.session.startsWith('write-') && !isFlattening(pin)).length,
    ...(writer === undefined ? {} : { writer }),
    looked,
  };
}

/** Lowest first; without one that is just being moved in, or that a killed writer left there. */
async function publishedRecords(layout: ImageLayout, head: GenerationRecord): Promise<GenerationRecord[]> {
  const unpublished = (await readClaim(layout))?.publishing;
  const numbers = (await generationNumbers(layout)).filter((n) => n !== unpublished || n === head.generation);
  return Promise.all(numbers.map((generation) => readGeneration(layout, generation)));
}

async function currentWriter(layout: ImageLayout, pins: readonly Pin[]): Promise<ImageWriter | undefined> {
  const claim = await readClaim(layout);
  if (claim === undefined || !(await fencesAtWork(layout)).includes(claim.fence)) return undefined;
  const pin = pins.find(({ session }) => session.startsWith(`write-${claim.fence}-`));
  return { owner: claim.owner.by, fence: claim.fence, since: pin === undefined ? Date.now() : Date.parse(pin.since) };
}
