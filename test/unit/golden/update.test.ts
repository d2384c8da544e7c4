import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { GoldenRefusal, type Argv } from '../../../src/protocol/testbed.ts';
import { outcomeSchema } from '../../../src/protocol/outcome.ts';
import { listImages } from '../../../src/golden/show.ts';
import { readHead } from '../../../src/golden/store.ts';
import { updateImage, type GoldenSession, type UpdateRequest } from '../../../src/golden/update.ts';
import { joinSteps, updateSteps } from '../../../src/golden/update-steps.ts';
import { never, publishFiles, temporaryState, type TemporaryState } from './fixtures/images.ts';

/** A session that keeps a diary; its commit publishes, or does what the test says. */
async function sessionOn(state: TemporaryState, commit?: () => Promise<void>) {
  const folder = path.join(state.root, 'pretend');
  await mkdir(folder);
  await writeFile(path.join(folder, 'packages'), 'installed\tapt\t1\tamd64\ninstalled\thello\t1\tamd64\n');
  await writeFile(path.join(folder, 'lists'), 'abc  lists/x\n');
  const diary: string[] = [];
  const note = async (word: string): Promise<void> => void diary.push(word);
  const testbed: Argv = [path.join(import.meta.dirname, 'fixtures/pretend-testbed'), folder];
  const session: GoldenSession = {
    openGolden: () => note('open-golden'),
    executeCommand: async () => testbed,
    async commitGolden() {
      await note('commit-golden');
      await (commit?.() ?? publishFiles(state, 'sid', { new: '' }));
    },
    close: () => note('close'),
  };
  const onStep = (step: string, script: string): Promise<void> => writeFile(path.join(folder, `on-${step}`), script);
  return { session, diary, onStep, calls: () => readFile(path.join(folder, 'calls'), 'utf8') };
}

function request(state: TemporaryState, session: GoldenSession, more: Partial<UpdateRequest> = {}): UpdateRequest {
  return { store: state, image: 'sid', session, by: 'nightly', job: 'b7f3', log: () => {}, ...more };
}

test("the letters are sbuild-update's, in a fixed order whatever the order given; clean comes last", () => {
  const names = (letters?: string): string[] => updateSteps(letters).map((step) => step.name);
  expect(names()).toEqual(['update', 'dist-upgrade', 'autoclean', 'autoremove', 'clean']);
  expect(names('rgcadu')).toEqual(['update', 'upgrade', 'dist-upgrade', 'autoclean', 'autoremove', 'clean']);
  for (const wrong of ['ux', '']) expect(() => updateSteps(wrong)).toThrow(/unknown update step/);
});

test('what one command can do of another’s work it does, and says so; a kernel is left to autoremove itself', () => {
  const names = (letters: string, manifest = ''): string[] =>
    joinSteps(updateSteps(letters), manifest).map((step) => step.name);
  expect(names('udcar')).toEqual(['update', 'dist-upgrade, autoremove', 'clean, autoclean']);
  expect(names('ugar')).toEqual(['update', 'upgrade', 'autoclean', 'autoremove']);
  expect(names('dc')).toEqual(['dist-upgrade', 'clean']);
  expect(names('dr', 'apt\t1\tamd64\nlinux-image-amd64\t6.1\tamd64\n')).toEqual(['dist-upgrade', 'autoremove']);
});

test('an upgrade that changes packages is published, with what changed and how long it took', async () => {
  await using state = await temporaryState();
  await publishFiles(state, 'sid', {});
  const { session, diary, onStep, calls } = await sessionOn(state);
  await onStep('dist-upgrade', 'sed -i s/hello.1/hello\\\\t2/ packages; echo "installed\tnew\t1\tall" >>packages');
  const log: string[] = [];
  const updated = await updateImage(request(state, session, { log: (text) => log.push(text) }), never);
  expect(updated.result).toEqual({
    kind: 'update-golden',
    exitCode: 0,
    status: 'published',
    before: 1,
    after: 2,
    digest: (await readHead(state, 'sid')).digest,
    packages: { added: 1, removed: 0, changed: 1 },
  });
  expect(outcomeSchema.shape.result.parse(updated.result)).toEqual(updated.result);
  expect(updated.steps.map((step) => step.name)).toEqual([
    'opened',
    ...['update', 'dist-upgrade, autoremove', 'clean, autoclean'],
    'committed',
  ]);
  expect(diary).toEqual(['open-golden', 'commit-golden']);
  expect(log.join('')).toContain('\ngoldbed: dist-upgrade, autoremove\noutput of dist-upgrade\n');
  const commands = (await calls()).split('\n');
  expect(commands[0]).toMatch(
    /^DEBIAN_FRONTEND=noninteractive \/usr\/bin\/apt-get .*Error-Mode=any -o pkgCacheFile::Generate=false update$/,
  );
  expect(commands[1]).toMatch(
    / -uy -o Dpkg::Options::=--force-confold -o APT::Immediate-Configure=false --auto-remove dist-upgrade$/,
  );
  expect(commands[2]).toMatch(/ -y -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= clean$/);
});

test('new package lists alone are worth publishing', async () => {
  await using state = await temporaryState();
  await publishFiles(state, 'sid', {});
  const { session, onStep } = await sessionOn(state);
  await onStep('update', 'echo "def  lists/x" >lists');
  const { result } = await updateImage(request(state, session), never);
  expect(result).toMatchObject({ status: 'published', after: 2, packages: { added: 0, removed: 0, changed: 0 } });
});

test('nothing to do publishes nothing, and the image counts as looked at', async () => {
  await using state = await temporaryState();
  await publishFiles(state, 'sid', {});
  const { session, diary } = await sessionOn(state);
  const { result } = await updateImage(request(state, session), never);
  expect(result).toMatchObject({ status: 'unchanged', exitCode: 0, before: 1, after: 1 });
  expect(diary).toEqual(['open-golden', 'close']);
  const [image] = await listImages(state);
  expect(image?.looked.unchanged).toMatchObject({ generation: 1, by: 'nightly', job: 'b7f3' });
});

test('any failing step discards everything, names itself and the reason, and is remembered until one succeeds', async () => {
  await using state = await temporaryState();
  await publishFiles(state, 'sid', {});
  const { session, diary, onStep } = await sessionOn(state);
  await onStep('dist-upgrade', 'echo "installed\tnew\t1\tall" >>packages; echo "E: held packages" >&2; exit 100');
  const { result, steps } = await updateImage(request(state, session), never);
  expect(result).toMatchObject({
    status: 'failed',
    exitCode: 1,
    after: 1,
    reason: 'dist-upgrade, autoremove: exit 100: E: held packages',
  });
  expect(steps.at(-1)?.name).toBe('dist-upgrade, autoremove');
  expect(diary).toEqual(['open-golden', 'close']);
  const failed = { step: 'dist-upgrade, autoremove', reason: 'exit 100: E: held packages', by: 'nightly' };
  expect((await listImages(state))[0]?.looked.failed).toMatchObject(failed);
  await onStep('dist-upgrade', '');
  expect((await updateImage(request(state, session), never)).result.status).toBe('unchanged');
  expect((await listImages(state))[0]?.looked.failed).toBeUndefined();
});

test('a step that was asked for alone fails by its own name', async () => {
  await using state = await temporaryState();
  await publishFiles(state, 'sid', {});
  const { session, onStep } = await sessionOn(state);
  await onStep('autoremove', 'echo "E: held packages" >&2; exit 100');
  const { result } = await updateImage(request(state, session, { letters: 'ur' }), never);
  expect(result).toMatchObject({ status: 'failed', reason: 'autoremove: exit 100: E: held packages' });
});

test('a refused verification is a failed update; a lost race is for the caller to try again', async () => {
  await using state = await temporaryState();
  await publishFiles(state, 'sid', {});
  let word: 'commit-failed' | 'golden-changed' = 'commit-failed';
  const { session, diary, onStep } = await sessionOn(state, async () => {
    throw new GoldenRefusal(word, 'dpkg --audit failed');
  });
  await onStep('update', 'echo more >>lists');
  const { result } = await updateImage(request(state, session), never);
  expect(result).toMatchObject({ status: 'failed', reason: 'commit: dpkg --audit failed' });
  expect(diary).toEqual(['open-golden', 'commit-golden']);
  word = 'golden-changed';
  await expect(updateImage(request(state, session), never)).rejects.toMatchObject({ word });
});

test('a testbed that is lost, or a cancelled job, discards and throws', async () => {
  await using state = await temporaryState();
  await publishFiles(state, 'sid', {});
  const { session, diary, onStep } = await sessionOn(state);
  await onStep('dist-upgrade', 'exit 254');
  await expect(updateImage(request(state, session), never)).rejects.toMatchObject({
    name: 'TestbedError',
    step: 'run',
  });
  const controller = new AbortController();
  await onStep('dist-upgrade', 'echo started; exec sleep 1000');
  const log = (text: string): void => {
    if (text.includes('started')) controller.abort(new Error('cancelled'));
  };
  await expect(updateImage(request(state, session, { log }), controller.signal)).rejects.toThrow('cancelled');
  expect(diary).toEqual(['open-golden', 'close', 'open-golden', 'close']);
});

test('an unknown image or letter opens nothing', async () => {
  await using state = await temporaryState();
  const { session, diary } = await sessionOn(state);
  await expect(updateImage(request(state, session), never)).rejects.toThrow('there is no image sid');
  await expect(updateImage(request(state, session, { letters: 'z' }), never)).rejects.toThrow("step 'z'");
  expect(diary).toEqual([]);
});
