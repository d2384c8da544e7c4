/** The clients' own headings, as they stand in real logs. */
import { expect, test } from 'vitest';
import { autopkgtestStage, sbuildStage, StepClock } from '../../../src/worker/stages.ts';

const sbuildLines: [string, string | undefined][] = [
  ['| Update chroot                                                                |', 'apt-update'],
  ['| Fetch source files                                                           |', 'fetch'],
  ['| Install package build dependencies                                           |', 'deps'],
  ['| Build                                                                        |', 'build'],
  ['| Build environment                                                            |', 'unpack'],
  ['| Post Build                                                                   |', 'post'],
  ['Build', undefined],
  ['| constructor |', undefined],
  ['| __proto__ |', undefined],
  ['| hello (amd64)                             Mon, 23 Nov 2026 12:00:00 +0000 |', undefined],
];
test.each(sbuildLines)('sbuild: %s', (line, stage) => expect(sbuildStage(line)).toBe(stage));

const autopkgtestLines: [string, string | undefined][] = [
  ['autopkgtest [12:00:00]: @@@@@@@@@@@@@@@@@@@@ test bed setup', 'setup'],
  ['autopkgtest [12:00:00]: @@@@@@@@@@@@@@@@@@@@ apt-source hello', 'source'],
  ['autopkgtest [12:00:00]: test upstream-tests: preparing testbed', 'deps'],
  ['autopkgtest [12:00:00]: test upstream-tests: [-----------------------', 'test'],
  ['autopkgtest [12:00:00]: test upstream-tests: -----------------------]', 'post'],
  ['autopkgtest [12:00:00]: @@@@@@@@@@@@@@@@@@@@ summary', 'post'],
  ['test upstream-tests: [-----', undefined],
];
test.each(autopkgtestLines)('autopkgtest: %s', (line, stage) => expect(autopkgtestStage(line)).toBe(stage));

test('a step ends when the next begins; one that comes twice is one entry', () => {
  let now = 0;
  const clock = new StepClock(() => now);
  clock.add('queued', 2);
  for (const [name, at] of [
    ['deps', 0],
    ['test', 1000],
    ['deps', 4000],
    ['deps', 4500],
  ] as const) {
    now = at;
    clock.begin(name);
  }
  now = 6000;
  clock.end();
  clock.end();
  expect(clock.steps()).toEqual([
    { name: 'queued', seconds: 2 },
    { name: 'deps', seconds: 3 },
    { name: 'test', seconds: 3 },
  ]);
});
