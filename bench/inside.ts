/** The measurement itself, once a place of its own is there: base image, sections, results, report. */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { makeBaseImage, type BaseImage } from './base-image.ts';
import { measureBuild } from './hello.ts';
import { endLeftovers } from './leftovers.ts';
import { describeMachine } from './machine.ts';
import type { Options, Section } from './options.ts';
import { makePlace, type Place } from './place.ts';
import { measureQueue } from './queue.ts';
import { measureReaders } from './readers.ts';
import { report } from './report.ts';
import { readResults, writeResults, type SectionContext } from './results.ts';
import { measureUpdate } from './update.ts';
import { measureWire } from './wire.ts';

export async function inside(folder: string, options: Options): Promise<void> {
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => stop.abort(new Error(`ended by ${signal}`)));
  }
  try {
    const place = await makePlace(folder, stop.signal);
    const base = await makeBaseImage(place, options.suite);
    for (const section of options.only) await measure(section, place, base, options);
  } catch (error) {
    process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = stop.signal.aborted ? 130 : 1;
  } finally {
    await endLeftovers();
  }
}

/** Written after each section: what was measured survives a later failure. */
async function measure(section: Section, place: Place, base: BaseImage, options: Options): Promise<void> {
  const context = await contextOf(section, place, base, options);
  const rounds = options.rounds[section];
  const measured = {
    wire: async () => ({ wire: { ...(await measureWire(place, base, rounds)), context } }),
    build: async () => ({ build: { ...(await measureBuild(place, base, rounds)), context } }),
    update: async () => ({ update: { ...(await measureUpdate(place, base, rounds)), context } }),
    readers: async () => ({ readers: { ...(await measureReaders(place, base, rounds)), context } }),
    queue: async () => ({ queue: { ...(await measureQueue(place, rounds)), context } }),
  };
  const results = { ...readResults(), ...(await measured[section]()) };
  writeResults(results);
  writeFileSync(fileURLToPath(new URL('./README.md', import.meta.url)), report(results));
  place.say(`${section}: written to bench/README.md`);
}

async function contextOf(section: Section, place: Place, base: BaseImage, options: Options): Promise<SectionContext> {
  const args = options.args.length === 0 ? '' : ` -- ${options.args.join(' ')}`;
  return {
    date: new Date().toISOString().slice(0, 10),
    command: `npm run bench${args}`,
    rounds: options.rounds[section],
    suite: base.suite,
    image: `${base.suite} ${base.arch}, mmdebstrap's buildd variant and package lists, ${base.megabytes} MB`,
    machine: await describeMachine(place.signal),
  };
}
