/** Section "build": all of a build of hello, by stages, which one and the same code reads off the log as it comes. */
import { mkdtempSync, readdirSync } from 'node:fs';
import path from 'node:path';
import * as z from 'zod';
import { check, run } from '../src/exec/run.ts';
import { stepsSchema, type Steps } from '../src/protocol/outcome.ts';
import { sbuildStage, StepClock } from '../src/worker/stages.ts';
import { goldbed, imageName, runInSession, type BaseImage } from './base-image.ts';
import type { Place } from './place.ts';
import { inTurn, stepDetails, type BuildResults } from './results.ts';

/** Seconds. `rest` is what the others leave of the whole: start and end of the programs, fetching, packing, closing. */
type Stages = Readonly<Record<string, number>>;

const replySchema = z.object({ outcome: z.object({ steps: stepsSchema }) });

/** As goldbed runs sbuild (src/worker/run-build.ts): the image is fresh, and the session is thrown away whole. */
const sameOptions = [
  ...['--no-apt-upgrade', '--no-apt-distupgrade', '--purge-build=never', '--purge-deps=never'],
  ...['--no-run-lintian', '--no-run-piuparts', '--no-run-autopkgtest'],
];

export async function measureBuild(place: Place, base: BaseImage, rounds: number): Promise<BuildResults> {
  const dsc = await fetchSource(place);
  const programs = [
    { name: 'goldbed build', build: () => buildWithGoldbed(place, dsc) },
    { name: 'sbuild, schroot mode', build: () => buildWithSbuild(place, base, dsc) },
  ];
  const results: Record<string, Record<string, number[]>> = {};
  for (let round = 0; round < rounds; round += 1) {
    for (const { name, build } of inTurn(programs, round)) {
      place.say(`build: round ${round + 1} of ${rounds}: ${name}`);
      await place.settle();
      const row = (results[name] ??= {});
      for (const [stage, seconds] of Object.entries(await build())) (row[stage] ??= []).push(seconds);
    }
  }
  return { source: path.basename(dsc), programs: results };
}

/** Once, into a folder, with the sources of the image itself. */
async function fetchSource(place: Place): Promise<string> {
  const folder = place.folder('source');
  const archive = path.join(place.disk, 'source.tar');
  const script = [
    'mkdir -m 777 /tmp/source && cd /tmp/source',
    'apt-get source --download-only hello >&2',
    'exec tar --create .',
  ].join(' && ');
  await runInSession(place, 'open', script, archive);
  await check(['tar', '--extract', '--no-same-owner', '--file', archive], { cwd: folder, signal: place.signal });
  const dsc = readdirSync(folder).find((name) => name.endsWith('.dsc'));
  if (dsc === undefined) throw new Error('apt-get source brought no .dsc');
  return path.join(folder, dsc);
}

async function buildWithGoldbed({ env, signal }: Place, dsc: string): Promise<Stages> {
  const begun = performance.now();
  const argv = [goldbed, 'build', dsc, '--image', imageName, '--wait', '--json'];
  const { code, stdout, stderr } = await run(argv, { env, signal, grace: 30_000 });
  const total = (performance.now() - begun) / 1000;
  if (code !== 0) throw new Error(`goldbed build: exit ${code}: ${stderr.trim().slice(-500)}`);
  return stagesOf(replySchema.parse(JSON.parse(stdout)).outcome.steps, total);
}

async function buildWithSbuild(place: Place, base: BaseImage, dsc: string): Promise<Stages> {
  const { env, signal } = place;
  const output = mkdtempSync(path.join(place.folder('built'), 'build-'));
  const argv = [
    ...['/usr/bin/sbuild', '--chroot-mode=schroot', '-c', imageName, '--nolog', `--dist=${base.suite}`],
    ...[`--arch=${base.arch}`, `--build-dir=${output}`, ...sameOptions, '--', dsc],
  ];
  const clock = new StepClock();
  const begun = performance.now();
  clock.begin('opened');
  let rest = '';
  const onOutput = (chunk: Buffer): void => {
    const lines = (rest + chunk.toString()).split('\n');
    rest = lines.pop() ?? '';
    for (const stage of lines.map(sbuildStage)) if (stage !== undefined) clock.begin(stage);
  };
  const { code, stdout, stderr } = await run(argv, { cwd: output, env, signal, grace: 30_000, onOutput });
  clock.end();
  const total = (performance.now() - begun) / 1000;
  if (code !== 0) throw new Error(`sbuild: exit ${code}: ${stderr.trim().slice(-300)} ${stdout.trim().slice(-700)}`);
  return stagesOf(clock.steps(), total);
}

function stagesOf(steps: Steps, total: number): Stages {
  const of = (...names: readonly string[]): number =>
    steps.filter(({ name }) => names.includes(name)).reduce((sum, { seconds }) => sum + seconds, 0);
  const known = {
    open: of('queued', 'opened'),
    aptUpdate: of('apt-update'),
    deps: of('deps'),
    compile: of('build'),
  };
  if (known.compile === 0 || known.deps === 0) throw new Error(`stages are missing: ${JSON.stringify(steps)}`);
  const rest = total - Object.values(known).reduce((sum, seconds) => sum + seconds, 0);
  return { ...known, rest, total, overhead: total - known.compile, ...stepDetails(steps, total) };
}
