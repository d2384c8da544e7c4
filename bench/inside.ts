/** The measurement itself, once a place of its own is there: base image, sections, results, report. */
import { makeBaseImage, type BaseImage } from './base-image.ts';
import { measureBuild } from './hello.ts';
import { endLeftovers } from './leftovers.ts';
import { describeMachine } from './machine.ts';
import type { Options, Section } from './options.ts';
import { makePlace, type Place } from './place.ts';
import { measureQueue } from './queue.ts';
import { measureReaders } from './readers.ts';
import { readResults, writeResults, type Results, type SectionContext } from './results.ts';
import { measureUpdate } from './update.ts';
import { measureWire } from './wire.ts';
import { writeReport } from './write-report.ts';

/** Made when the first section asks for it. */
type BaseImages = () => Promise<BaseImage>;

export async function inside(folder: string, options: Options): Promise<void> {
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => stop.abort(new Error(`ended by ${signal}`)));
  }
  try {
    const place = await makePlace(folder, stop.signal);
    let made: Promise<BaseImage> | undefined;
    const base: BaseImages = () => (made ??= makeBaseImage(place, options.suite));
    for (const section of options.only) {
      keep(await measure(section, place, base, options));
      place.say(`${section}: written to bench/README.md`);
    }
  } catch (error) {
    process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = stop.signal.aborted ? 130 : 1;
  } finally {
    await endLeftovers();
  }
}

async function measure(section: Section, place: Place, base: BaseImages, options: Options): Promise<Results> {
  const rounds = options.rounds[section];
  // the queue's jobs have no session
  const image = section === 'queue' ? undefined : await base();
  const context = await contextOf(section, place, image, options);
  const measured = {
    wire: async (on: BaseImage) => ({ wire: { ...(await measureWire(place, on, rounds)), context } }),
    build: async (on: BaseImage) => ({ build: { ...(await measureBuild(place, on, rounds)), context } }),
    update: async (on: BaseImage) => ({ update: { ...(await measureUpdate(place, on, rounds)), context } }),
    readers: async (on: BaseImage) => ({ readers: { ...(await measureReaders(place, on, rounds)), context } }),
  };
  if (section === 'queue' || image === undefined) return { queue: { ...(await measureQueue(place, rounds)), context } };
  return measured[section](image);
}

/** Written after each section: what was measured survives a later failure. */
function keep(measured: Results): void {
  const results = { ...readResults(), ...measured };
  writeResults(results);
  writeReport(results);
}

async function contextOf(
  section: Section,
  place: Place,
  base: BaseImage | undefined,
  options: Options,
): Promise<SectionContext> {
  const args = options.args.length === 0 ? '' : ` -- ${options.args.join(' ')}`;
  const image =
    base === undefined
      ? 'none'
      : `${base.suite} ${base.arch}, mmdebstrap's buildd variant and package lists, ${base.megabytes} MB`;
  return {
    date: new Date().toISOString().slice(0, 10),
    command: `npm run bench${args}`,
    rounds: options.rounds[section],
    suite: base?.suite ?? options.suite,
    image,
    machine: await describeMachine(place.signal),
  };
}
