/**
 * Section "readers": sessions that are opened, and compile something, while an update runs, and what they see; beside
 * sbuild-update, whose readers share the directory that it changes. And what a deep stack of layers costs a reader.
 *
 * Two cores are shared with the update, so readers are slower meanwhile whatever it does to them. What is lost by that alone
 * is measured with a control load: the same upgrade in a session that nobody else has to do with, and that is thrown away.
 */
import { Session, startChildServer } from '../src/protocol/adt-virt/index.ts';
import { run } from '../src/exec/run.ts';
import { goldbedServer, imageName, runInSession, type BaseImage } from './base-image.ts';
import { measureDepths } from './depths.ts';
import type { Place } from './place.ts';
import { inTurn, type ReadersResults } from './results.ts';
import { names } from './servers.ts';
import { goldbedProgram, sbuildProgram, type Program } from './update.ts';

/** Sessions one after the other while nothing else happens. */
const quietSessions = 8;

/** The same work for apt and dpkg as an update with upgrades, where packages are marked older already. */
const controlLoad = `set -e
export DEBIAN_FRONTEND=noninteractive
apt-get -o pkgCacheFile::Generate=false update
apt-get -o APT::Install-Recommends=false -uy --auto-remove dist-upgrade
apt-get clean
`;

/** What a build does, in small. */
const compile = `cd /tmp && for i in 1 2 3 4 5; do
  printf '#include <stdio.h>\nint main(void) { return printf("%d", '$i') < 0; }\n' >small$i.c && cc -O2 -o small$i small$i.c
done`;

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
      for (const { update } of sides) await update.markOlder(); // ours for the control load, whoever's turn it is
      await place.settle();
      const visitFor = async (when: string): Promise<boolean> => {
        const { open, build, sound } = await visit(place, side.server);
        note(results.programs, side.name, when, open);
        note(results.programs, side.name, `build ${when}`, build);
        return sound;
      };
      for (let i = 0; i < quietSessions; i += 1) await visitFor('quiet');
      await visitWhile(runInSession(place, 'open', controlLoad, '/dev/null'), () => visitFor('control'));
      await place.settle();
      const updating = side.update.update('upgrades').then(
        () => undefined,
        (error: unknown) => error as Error, // whoever reads from it may be what disturbs it: that is a result, too
      );
      let [seen, broken] = [0, 0];
      await visitWhile(updating, async () => {
        const sound = await visitFor('during');
        seen += 1;
        if (!sound) broken += 1;
      });
      note(results.programs, side.name, 'seen', seen);
      note(results.programs, side.name, 'broken', broken);
      if ((await updating) !== undefined) note(results.programs, side.name, 'failed updates', 1);
    }
  }
  results.depths = await measureDepths(place, rounds, async () => (await visit(place, goldbedServer('overlay'))).open);
  return results;
}

/** One visitor after the other, for as long as something runs; the last may see its end. */
async function visitWhile(running: Promise<unknown>, one: () => Promise<unknown>): Promise<void> {
  let over = false;
  const ended = running.finally(() => (over = true));
  ended.catch(() => {}); // thrown below, when the visitor has left
  while (!over) await one();
  await ended;
}

interface Visit {
  /** Milliseconds until its first command has run. */
  readonly open: number;
  /** Milliseconds that a little compiling takes. */
  readonly build: number;
  /** apt finds the packages to be in order. */
  readonly sound: boolean;
}

async function visit(place: Place, server: readonly string[]): Promise<Visit> {
  const channel = await startChildServer(server, { log: () => {}, env: place.env });
  await using session = await Session.start(channel, { backend: server[0] ?? '' });
  await session.capabilities();
  const begun = performance.now();
  await session.open();
  const auxverb = await session.executeCommand();
  await run([...auxverb, '/bin/true'], { signal: place.signal });
  const open = performance.now() - begun;
  await run([...auxverb, '/bin/sh', '-c', compile], { signal: place.signal });
  const build = performance.now() - begun - open;
  const { code } = await run([...auxverb, '/usr/bin/apt-get', 'check'], { signal: place.signal });
  await session.close();
  await session.quit();
  return { open, build, sound: code === 0 };
}
