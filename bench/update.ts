/**
 * Section "update": the image refreshed, with upgrades to make and with none. Upgrades are made reproducible by marking
 * installed packages one version older in dpkg's status (`2.12-3~bench`), on both sides alike: apt then fetches, unpacks
 * and configures the archive's own version of each, whatever the mirror has to offer that day.
 */
import path from 'node:path';
import * as z from 'zod';
import { check, run } from '../src/exec/run.ts';
import { stepsSchema, type Steps } from '../src/protocol/outcome.ts';
import { goldbed, imageName, runInSession, type BaseImage } from './base-image.ts';
import type { Place } from './place.ts';
import { inTurn, stepDetails, type UpdateResults } from './results.ts';

/** In every image of the buildd variant; of those that nothing needs in an exact version, the first so many are marked. */
const packages = [
  ...['bash', 'bzip2', 'coreutils', 'dash', 'debianutils', 'diffutils', 'findutils', 'grep', 'gzip', 'hostname'],
  ...['make', 'ncurses-bin', 'patch', 'sed', 'tar', 'tzdata', 'xz-utils', 'mawk', 'login', 'passwd', 'debconf'],
  ...['sysvinit-utils', 'base-passwd', 'libacl1', 'libattr1', 'libxxhash0', 'liblz4-1', 'libzstd1', 'netbase'],
];
const wanted = 20;

/** Marks as many as are wanted, each only if apt agrees that nothing broke. Prints how many. */
const markOlder = `
set -eu
status=/var/lib/dpkg/status
marked=0
for package in ${packages.join(' ')}; do
  [ $marked -lt ${wanted} ] || break
  cp $status $status.bench
  perl -00 -i -pe 's/^(Version: .*)$/$1~bench/m if /^Package: \\Q'$package'\\E$/m && /^Status: install ok installed$/m' $status
  if ! cmp -s $status $status.bench && apt-get check >/dev/null 2>&1; then
    marked=$((marked + 1))
    mv $status.bench $status-old
  else
    mv $status.bench $status
  fi
done
echo $marked
`;

const result = z.object({ status: z.string(), packages: z.object({ changed: z.number() }) });
const replySchema = z.object({ outcome: z.object({ result, steps: stepsSchema }) });

export interface Program {
  readonly name: string;
  /** @returns how many packages are older now */
  readonly markOlder: () => Promise<number>;
  /** @returns its steps, if it tells. @throws {Error} when it did not do what was to be measured */
  readonly update: (kind: 'upgrades' | 'nothing') => Promise<Steps>;
}

export async function measureUpdate(place: Place, base: BaseImage, rounds: number): Promise<UpdateResults> {
  const programs = [goldbedProgram(place), sbuildProgram(place, base)];
  const results: Record<string, Record<string, number[]>> = {};
  const upgraded: number[] = [];
  await warmUp(programs);
  for (let round = 0; round < rounds; round += 1) {
    for (const kind of ['upgrades', 'nothing'] as const) {
      for (const program of inTurn(programs, round)) {
        place.say(`update: round ${round + 1} of ${rounds}, ${kind}: ${program.name}`);
        if (kind === 'upgrades') upgraded.push(await program.markOlder());
        await place.settle();
        const begun = performance.now();
        const steps = await program.update(kind);
        const seconds = (performance.now() - begun) / 1000;
        const details = Object.entries(stepDetails(steps, seconds)).map(
          ([step, each]) => [`${kind} ${step}`, each] as const,
        );
        const row = (results[program.name] ??= {});
        for (const [what, each] of [[kind, seconds] as const, ...details]) (row[what] ??= []).push(each);
      }
    }
  }
  return { upgraded, programs: results };
}

/** What only the first update ever does (users, debconf answers, lists that changed since the base was made). */
async function warmUp(programs: readonly Program[]): Promise<void> {
  for (const program of programs) {
    await program.markOlder();
    await program.update('upgrades');
  }
}

export function goldbedProgram(place: Place): Program {
  const { env, signal } = place;
  return {
    name: 'goldbed image update',
    async markOlder() {
      const output = path.join(place.disk, 'marked');
      await runInSession(place, 'open-golden', markOlder, output);
      return Number((await check(['cat', output], { signal })).stdout);
    },
    async update(kind) {
      const argv = [goldbed, 'image', 'update', imageName, '--wait', '--json'];
      const { code, stdout, stderr } = await run(argv, { env, signal, grace: 30_000 });
      if (code !== 0) throw new Error(`goldbed image update: exit ${code}: ${stderr.trim().slice(-500)} ${stdout}`);
      const { result: ending, steps } = replySchema.parse(JSON.parse(stdout)).outcome;
      const done = kind === 'upgrades' ? ending.packages.changed >= wanted : ending.status === 'unchanged';
      // the mirror's lists may have changed in between, which is not nothing
      if (!done) throw new Error(`goldbed image update, ${kind}: ${JSON.stringify(ending)}`);
      return steps;
    },
  };
}

export function sbuildProgram(place: Place, base: BaseImage): Program {
  const { env, signal } = place;
  const inside = (script: string) => check(['chroot', base.directory, '/bin/sh', '-c', script], { env, signal });
  return {
    name: 'sbuild-update -udcar, schroot',
    markOlder: async () => Number((await inside(markOlder)).stdout),
    async update() {
      const { code, stdout, stderr } = await run(['/usr/bin/sbuild-update', '-udcar', imageName], { env, signal });
      if (code !== 0)
        throw new Error(`sbuild-update: exit ${code}: ${stderr.trim().slice(-500)} ${stdout.slice(-500)}`);
      // it ends with 0 after a failed upgrade as well
      const { stdout: left } = await inside(
        "dpkg-query --show --showformat='${Version}\\n' | grep -c '~bench$' || true",
      );
      if (left.trim() !== '0') throw new Error(`sbuild-update left ${left.trim()} packages as they were`);
      return [];
    },
  };
}
