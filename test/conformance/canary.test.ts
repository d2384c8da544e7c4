/** The canary: a package is built and tested on a new generation before it is published; and what is left when that fails. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { check } from '../../src/exec/run.ts';
import { readHead } from '../../src/golden/store.ts';
import { decodeArgv } from '../../src/protocol/adt-virt/words.ts';
import { goldbedWithImage, type Goldbed, testImage, virtProgram } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';
import { Wire } from './vectors/describe-virt-server.ts';

/** Of Debian's archive: it needs debhelper alone, is compiled in a second, and has a test. */
const small = 'morsegen';
const unavailable = await overlayBackend(stateAt('/nonexistent')).unavailable();

describeWith('overlay', unavailable, 'a canary', () => {
  let goldbed: Goldbed;
  let first: number;
  const head = async (): Promise<number> => (await readHead(stateAt(goldbed.state), testImage)).generation;
  const update = (...args: string[]) => goldbed.run('image', 'update', testImage, '--json', '--wait', ...args);
  const json = (text: string): any => JSON.parse(text); // oxlint-disable-line typescript/no-explicit-any -- checked below

  beforeAll(async () => {
    goldbed = await goldbedWithImage();
    expect((await update()).code).toBe(0);
    first = await head();
  });
  beforeEach(async () => {
    if ((await head()) !== first) await goldbed.run('image', 'rollback', testImage, String(first));
  });
  afterAll(() => goldbed.run('image', 'rollback', testImage, String(first)));

  /** Publishes a generation on which something was done by hand; it has no package lists, so that an update has work. */
  async function tamper(script: string): Promise<number> {
    const wire = new Wire({
      argv: [virtProgram, 'overlay', testImage],
      env: { GOLDBED_NODE: process.execPath, GOLDBED_STATE: goldbed.state },
      revert: true,
    });
    expect(await wire.ask('open-golden')).toMatch(/^ok /);
    const argv = decodeArgv((await wire.ask('print-execute-command')).slice(3));
    await check([...argv, '/bin/sh', '-ec', `rm -f /var/lib/apt/lists/*Packages*\n${script}`]);
    expect(await wire.ask('commit-golden')).toMatch(/^ok/);
    await wire.quit();
    return head();
  }

  test('that does not build: nothing is published, and why is kept', async () => {
    const tampered = await tamper('printf "#!/bin/sh\\nexit 3\\n" >/usr/bin/make');
    const ran = await update('--canary', small);
    expect(ran.code, ran.stderr).toBe(1);
    const { outcome } = json(ran.stdout);
    expect(outcome.result).toMatchObject({ status: 'failed', before: tampered, after: tampered });
    expect(outcome.result.reason).toMatch(
      /^commit: canary: build of morsegen failed in build \(exit 2\), see \/.*log$/,
    );
    expect(await readFile(/see (\/\S*\/log)/.exec(outcome.result.reason)?.[1] ?? '', 'utf8')).toContain(
      'Status: attempted',
    );
    expect(await head()).toBe(tampered);
    const listed = await goldbed.run('image', 'ls');
    expect(listed.stdout).toMatch(/refresh failed in commit: canary: build of morsegen failed/);
    const [failed] = json((await goldbed.run('image', 'show', testImage, '--json')).stdout).image.failed;
    expect(failed).toMatchObject({ base: tampered, step: 'commit', reason: outcome.result.reason.slice(8) });
    expect(await readFile(path.join(failed.folder, 'log'), 'utf8')).toContain('goldbed: commit');
    expect(await readFile(path.join(failed.folder, 'manifest.tsv'), 'utf8')).toMatch(/^dpkg\t/m);
  });

  test('that cannot be fetched says nothing about the image, and is told as that', async () => {
    await tamper('true');
    const ran = await update('--canary', 'no-such-package-at-all');
    expect(ran.code, ran.stderr).toBe(1);
    expect(json(ran.stdout).outcome.result.reason).toMatch(
      /^commit: canary: build of no-such-package-at-all failed: its source could not be fetched/,
    );
  });

  test('that builds and passes: published, and the record says so', async () => {
    const tampered = await tamper('true');
    const ran = await update('--canary', small);
    expect(ran.code, ran.stderr).toBe(0);
    const { outcome } = json(ran.stdout);
    expect(outcome.result).toMatchObject({ status: 'published', before: tampered });
    const { verified } = await readHead(stateAt(goldbed.state), testImage);
    expect(verified.slice(0, 5)).toEqual([
      'dpkg --audit',
      'apt-get check',
      'fresh session',
      `canary-build ${small}`,
      `canary-test ${small}`,
    ]);
    const steps = outcome.steps.map(({ name }: { name: string }) => name);
    expect(steps).toEqual(expect.arrayContaining(['canary-build', 'canary-test', 'committed']));
    expect((await goldbed.run('image', 'ls')).stdout).not.toMatch(new RegExp(`${testImage} .*refresh failed`));
  });

  test('whose name is none is refused at once', async () => {
    const ran = await update('--canary', '../x');
    expect(ran).toMatchObject({ code: 64 });
    expect(ran.stderr).toBe(
      'goldbed: --canary: expected the name of a source package, or NAME=VERSION, found "../x"\n',
    );
  });
});
