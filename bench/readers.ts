/**
 * Section "readers": sessions that are opened while an update runs, and what they see; beside sbuild-update, whose readers
 * share the directory that it changes. And what a deep stack of layers costs a reader.
 */
import * as z from 'zod';
import { Session, startChildServer } from '../src/protocol/adt-virt/index.ts';
import { check, run } from '../src/exec/run.ts';
import { goldbed, goldbedServer, imageName, runInSession, type BaseImage } from './base-image.ts';
import type { Place } from './place.ts';
import { inTurn, type ReadersResults } from './results.ts';
import { names } from './servers.ts';
import { goldbedProgram, sbuildProgram, type Program } from './update.ts';

/** Sessions one after the other while nothing else happens. */
const quietSessions = 8;

/** Opens of each depth in a round. */
const depthOpens = 6;

interface Side {
  readonly name: string;
  readonly update: Program;
  readonly server: readonly string[];
}

export async function measureReaders(place: Place, base: BaseImage, rounds: number): Promise<ReadersResults> {
  const sides: readonly Side[] = [
    { name: names.goldbed, update: goldbedProgram(place), server: goldbedServer('overlay') },
    {
      name: names.schroot,
      update: sbuildProgram(place, base),
      server: ['/usr/bin/autopkgtest-virt-schroot', imageName],
    },
  ];
  const results: ReadersResults = { programs: {}, depths: {} };
  const note = (table: Record<string, Record<string, number[]>>, row: string, what: string, value: number): void => {
    const cells = (table[row] ??= {});
    (cells[what] ??= []).push(value);
  };
  for (let round = 0; round < rounds; round += 1) {
    for (const side of inTurn(sides, round)) {
      place.say(`readers: round ${round + 1} of ${rounds}: ${side.name}`);
      await side.update.markOlder();
      await place.settle();
      for (let i = 0; i < quietSessions; i += 1) {
        note(results.programs, side.name, 'quiet', (await visit(place, side.server)).open);
      }
      const updating = side.update.update('upgrades').then(
        () => undefined,
        (error: unknown) => error as Error, // whoever reads from it may be what disturbs it: that is a result, too
      );
      let over = false;
      void updating.then(() => (over = true));
      let [seen, broken] = [0, 0];
      while (!over) {
        const visitor = await visit(place, side.server);
        seen += 1;
        if (!visitor.sound) broken += 1;
        note(results.programs, side.name, 'during', visitor.open);
      }
      note(results.programs, side.name, 'seen', seen);
      note(results.programs, side.name, 'broken', broken);
      if ((await updating) !== undefined) note(results.programs, side.name, 'failed updates', 1);
    }
  }
  results.depths = await measureDepths(place, rounds);
  return results;
}

/** One session: how long until its first command has run, and whether apt finds it sound. */
async function visit(
  place: Place,
  server: readonly string[],
): Promise<{ readonly open: number; readonly sound: boolean }> {
  const channel = await startChildServer(server, { log: () => {}, env: place.env });
  await using session = await Session.start(channel, { backend: server[0] ?? '' });
  await session.capabilities();
  const begun = performance.now();
  await session.open();
  const auxverb = await session.executeCommand();
  await run([...auxverb, '/bin/true'], { signal: place.signal });
  const open = performance.now() - begun;
  const { code } = await run([...auxverb, '/usr/bin/apt-get', 'check'], { signal: place.signal });
  await session.close();
  await session.quit();
  return { open, sound: code === 0 };
}

const shownSchema = z.object({
  image: z.object({
    all: z.array(z.object({ record: z.object({ generation: z.number(), layers: z.array(z.unknown()) }) })),
  }),
});

/** Opens of the shallowest and of the deepest generation that there is, in turn. */
async function measureDepths(place: Place, rounds: number): Promise<Record<string, number[]>> {
  const image = (...args: string[]) => check([goldbed, 'image', ...args], { env: place.env, signal: place.signal });
  const depths: Record<string, number[]> = {};
  const known = async () => {
    const { stdout } = await image('show', imageName, '--json');
    return shownSchema.parse(JSON.parse(stdout)).image.all.map(({ record }) => ({
      generation: record.generation,
      depth: record.layers.length,
    }));
  };
  for (const { generation } of await known()) await image('pin', imageName, String(generation), '--reason', 'bench');
  for (let i = 0; i < 8; i += 1) {
    await runInSession(place, 'open-golden', `echo ${i} >/root/depth-${i}`, '/dev/null');
    const [newest] = await known();
    await image('pin', imageName, String(newest?.generation), '--reason', 'bench');
  }
  const all = (await known()).toSorted((a, b) => a.depth - b.depth);
  const ends = [all[0], all.at(-1)].filter((one) => one !== undefined);
  for (let round = 0; round < rounds * depthOpens; round += 1) {
    for (const { generation, depth } of inTurn(ends, round)) {
      await image('rollback', imageName, String(generation)).catch(() => {}); // it is current already
      const { open } = await visit(place, goldbedServer('overlay'));
      (depths[`${depth} ${depth === 1 ? 'layer' : 'layers'}`] ??= []).push(open);
    }
  }
  return depths;
}
