/** Cron patterns, time zones, ages and the policies of images. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { getNextMillis } from 'bullmq';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ConfigError } from '../../../src/config/config-error.ts';
import { cronProblem, hostTimeZone, timeZoneProblem } from '../../../src/config/cron.ts';
import { parseDuration } from '../../../src/config/duration.ts';
import { loadSettings, type Settings } from '../../../src/config/load.ts';
import { keepFor, scheduleFor, strategyFor, verifyFor } from '../../../src/config/policy.ts';

describe('ages', () => {
  test.each([
    ['0s', 0],
    ['45s', 45],
    ['30m', 1800],
    ['12h', 43_200],
    ['2d', 172_800],
  ])('%s', (text, seconds) => expect(parseDuration(text)).toBe(seconds));
  test.each(['', '12', 'h', '-1h', '1.5h', '1 h', '12H', '1w', '9999999d', '1h\n'])('%j is none', (text) =>
    expect(parseDuration(text)).toBeUndefined(),
  );
});

describe('cron patterns', () => {
  test.each(['0 3 * * *', '*/5 0-6,22 1,15 jan-mar Mon', '59 23 31 12 7', '0 0 * * sun-tue', '0 3 * * 0-6/2'])(
    '%s',
    (cron) => expect(cronProblem(cron)).toBeUndefined(),
  );

  test.each([
    ['', /expected five fields/],
    ['0 3 * *', /expected five fields/],
    ['0 0 3 * * *', /expected five fields/],
    ['@reboot', /expected five fields/],
    ['60 3 * * *', /"60" is no minute: expected 0-59/],
    ['0 24 * * *', /"24" is no hour/],
    ['0 3 0 * *', /"0" is no day of month/],
    ['0 3 * 13 *', /"13" is no month/],
    ['0 3 * * 8', /"8" is no day of week/],
    ['0 5-3 * * *', /"5-3" is no hour/],
    ['*/0 3 * * *', /no minute/],
    ['1,,2 3 * * *', /no minute/],
    ['1-2-3 3 * * *', /no minute/],
    ['- 3 * * *', /no minute/],
    ['0 3 * * mo', /"mo" is no day of week/],
    ['0\t3 * * *', /expected five fields/],
    ['0 3 * * 0,sun', /twice/],
    ['0 3 * * 7,0', /twice/],
    ['5,1-9 3 * * *', /"5,1-9" has a minute twice/],
  ])('%j is none', (cron, problem) => expect(cronProblem(cron)).toMatch(problem));

  test('what passes here is understood by what computes the times, in every field', () => {
    const number = (from: number, to: number): fc.Arbitrary<string> => fc.integer({ min: from, max: to }).map(String);
    const field = (from: number, to: number): fc.Arbitrary<string> => {
      const range = fc
        .tuple(fc.integer({ min: from, max: to }), fc.integer({ min: from, max: to }))
        .map((ends) => ends.toSorted((one, other) => one - other).join('-'));
      const item = fc.oneof(fc.constant('*'), number(from, to), range);
      const stepped = fc.tuple(item, fc.integer({ min: 1, max: 12 })).map(([one, step]) => `${one}/${step}`);
      return fc.array(fc.oneof(item, stepped), { minLength: 1, maxLength: 3 }).map((items) => items.join(','));
    };
    // 28 days: a day that no month has is found out when the schedule is made
    const pattern = fc.tuple(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 7));
    fc.assert(
      fc.property(pattern, (fields) => {
        const cron = fields.join(' ');
        if (cronProblem(cron) === undefined)
          expect(getNextMillis(Date.now(), { pattern: cron, tz: 'Europe/Berlin' })).toBeGreaterThan(0);
        else expect(cronProblem(cron)).toMatch(/ twice$/);
      }),
      { numRuns: 500 },
    );
  });
});

test('time zones are names', () => {
  for (const zone of ['Europe/Berlin', 'UTC', hostTimeZone()]) expect(timeZoneProblem(zone)).toBeUndefined();
  for (const zone of ['Mars/Olympus', '', '+01:00', 'Europe/Berlin ']) {
    expect(timeZoneProblem(zone)).toMatch(/^unknown time zone ".*": expected a name like Europe\/Berlin or UTC$/);
  }
});

describe('in the configuration', () => {
  let home: string;
  beforeEach(async () => {
    home = await mkdtemp(path.join(tmpdir(), 'goldbed-policy-'));
    await mkdir(path.join(home, 'goldbed'));
  });
  afterEach(() => rm(home, { recursive: true, force: true }));
  const load = (): Settings => loadSettings({ XDG_CONFIG_HOME: home }, 0);
  const write = (name: string, policy: string): Promise<void> =>
    writeFile(path.join(home, 'goldbed', name), `images:\n  policy:\n    ${policy}\n`);

  test('each key of a policy counts, and images without one are as they were', async () => {
    await write(
      'a.yaml',
      'sid: { strategy: replace, schedule: "0 3 * * *", timeZone: Europe/Berlin, keep: 7, maxAge: 12h, verify: [[test, -x, /bin/sh]] }',
    );
    const { images } = load();
    expect(images.policy['sid']).toMatchObject({ maxAge: 43_200 });
    expect(strategyFor(images.policy, 'sid')).toBe('replace');
    expect(scheduleFor(images.policy, 'sid')).toEqual({ cron: '0 3 * * *', timeZone: 'Europe/Berlin' });
    expect(verifyFor(images.policy, 'sid')).toEqual({ verify: [['test', '-x', '/bin/sh']] });
    expect(verifyFor(images.policy, 'other')).toEqual({ verify: [] });
    expect([keepFor(images, 'sid'), keepFor(images, 'other')]).toEqual([7, 3]);
    expect(strategyFor(images.policy, 'other')).toBe('upgrade');
    expect(scheduleFor(images.policy, 'other')).toBeUndefined();
  });

  test('without a time zone a schedule is in that of the host', async () => {
    await write('a.yaml', 'sid: { schedule: "0 3 * * *" }');
    expect(scheduleFor(load().images.policy, 'sid')?.timeZone).toBe(hostTimeZone());
  });

  test('files add policies; of the same image the later one counts whole', async () => {
    await write('a.yaml', 'sid: { keep: 7, maxAge: 1h }\n    trixie: { keep: 2 }');
    await write('b.yaml', 'sid: { keep: 9 }');
    expect(load().images.policy).toEqual({ sid: { keep: 9 }, trixie: { keep: 2 } });
  });

  test.each([
    ['sid: { schedule: "61 * * * *" }', /images\.policy\.sid\.schedule: "61 \* \* \* \*" is not a cron pattern: "61"/],
    ['sid: { timeZone: Mars/Olympus }', /images\.policy\.sid\.timeZone: unknown time zone "Mars\/Olympus"/],
    ['sid: { maxAge: soon }', /images\.policy\.sid\.maxAge: expected a number and its unit/],
    ['sid: { maxAge: 12 }', /images\.policy\.sid\.maxAge: .*string/],
    ['sid: { strategy: guess }', /images\.policy\.sid\.strategy: .*"upgrade"\|"replace"/],
    ['sid: { keep: 0 }', /images\.policy\.sid\.keep: /],
    ['sid: { shedule: "0 3 * * *" }', /images\.policy\.sid: .*shedule/],
    ['sid: { verify: true }', /images\.policy\.sid\.verify: /],
    ['sid: { verify: [dpkg] }', /images\.policy\.sid\.verify\.0: /],
    ['sid: { verify: [[]] }', /images\.policy\.sid\.verify\.0/],
    ['sid: nightly', /images\.policy\.sid: /],
  ])('%s names file and key', async (policy, message) => {
    await write('a.yaml', policy);
    expect(load).toThrow(ConfigError);
    expect(load).toThrow(/a\.yaml: /);
    expect(load).toThrow(message);
  });
});
