/** An image from nothing by real mmdebstrap, then written, refused and updated through real sessions on the overlay. */
import { randomUUID } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt, type State } from '../../src/config/state.ts';
import { run } from '../../src/exec/run.ts';
import { emptyTrash } from '../../src/exec/trash.ts';
import { existingSources } from '../../src/golden/apt-probe.ts';
import { candidatesFor, hostTargets, signedBy } from '../../src/golden/apt-sources.ts';
import { createImage, type CreateRequest } from '../../src/golden/create.ts';
import type { CreateTools } from '../../src/golden/new-generation.ts';
import { imageSource, localLeases, showImage, updateImage, verifyGeneration } from '../../src/golden/index.ts';
import type { FenceSource } from '../../src/golden/fence-source.ts';
import { generationFolder, layoutOf } from '../../src/golden/layout.ts';
import type { GenerationRecord } from '../../src/golden/record.ts';
import { imageNames, readHead } from '../../src/golden/store.ts';
import { Session, startInProcess } from '../../src/protocol/adt-virt/index.ts';
import { ImageLeaseLost } from '../../src/protocol/errors.ts';
import type { Testbed, TestbedSource } from '../../src/protocol/testbed.ts';
import { hostSuite, testCache } from './fixtures/base-image.ts';
import { describeWith } from './fixtures/requirements.ts';

const never = new AbortController().signal;
const newId = (): string => randomUUID().replaceAll('-', '');
const mmdebstrapMissing = existsSync('/usr/bin/mmdebstrap') ? undefined : 'mmdebstrap is not installed';
const unavailable = mmdebstrapMissing ?? (await overlayBackend(stateAt('/nonexistent')).unavailable());

describeWith('overlay', unavailable, 'golden images', () => {
  let state: State;
  let suite: string;
  let created: GenerationRecord;
  const lines: string[] = [];

  beforeAll(async () => {
    suite = await hostSuite();
    await mkdir(testCache(), { recursive: true });
    state = stateAt(await mkdtemp(path.join(testCache(), 'golden-')));
    created = await create({ name: 'base', suite, variant: 'apt', include: ['hello'] });
  });
  afterAll(() => rm(state.root, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 }));

  const create = (
    request: CreateRequest,
    tools: Partial<CreateTools> = {},
    signal: AbortSignal = never,
  ): Promise<GenerationRecord> => {
    const backend = overlayBackend(state);
    const progress = (line: string): void => void lines.push(line);
    const standard = {
      store: state,
      leases: localLeases(state, { by: 'test', wait: 0 }),
      backend,
      sessionId: newId(),
      by: 'test',
      progress,
    };
    return createImage(request, { ...standard, ...tools }, signal);
  };
  const source = (more: { leases?: FenceSource; generation?: number; job?: string } = {}): TestbedSource => {
    const { leases = localLeases(state, { by: 'test', wait: 0 }), generation, job } = more;
    const options = { store: state, image: 'base', backend: overlayBackend(state), leases, sessionId: newId() };
    const who = { by: 'test', ...(job === undefined ? {} : { job }) };
    return imageSource({ ...options, who, ...(generation === undefined ? {} : { generation }) });
  };
  const golden = (more: { leases?: FenceSource; job?: string } = {}) => {
    const opening = source(more).openGolden?.(never);
    if (opening === undefined) throw new Error('not golden-capable');
    return opening;
  };
  const sh = async (testbed: Testbed, script: string): Promise<string> => {
    const { code, stdout, stderr } = await run([...testbed.auxverb, '/bin/sh', '-ec', script]);
    return code === 0 ? stdout : `exit ${code}: ${stderr}`;
  };
  const head = async (): Promise<number> => (await readHead(state, 'base')).generation;

  test('the record says where the image came from, and its digest can be verified', async () => {
    expect(created).toMatchObject({ image: 'base', generation: 1, parent: null, strategy: 'create', by: 'test' });
    expect(created.recipe).toMatchObject({ suite, variant: 'apt', include: ['hello'] });
    expect(created.verified).toEqual(['dpkg --audit', 'apt-get check', 'fresh session']);
    expect(created.tools['mmdebstrap']).toMatch(/^\d/);
    expect(created.sources.some((each) => each.includes(` ${suite} `))).toBe(true);
    expect(lines.some((line) => line.startsWith('I: '))).toBe(true);
    const manifest = await readFile(path.join(layoutOf(state, 'base').generations, '1/manifest.tsv'), 'utf8');
    expect(manifest).toMatch(/^hello\t\S+\t\w+\t\d+$/m);
    expect(created.packages).toBe(manifest.trim().split('\n').length);
    expect((await verifyGeneration(state, 'base', 1, never)).damaged).toEqual([]);
  });

  test('it says nothing of the host, and has what a testbed needs', () => {
    const root = path.join(generationFolder(layoutOf(state, 'base'), 1), 'layer');
    const text = (name: string): string => readFileSync(path.join(root, name), 'utf8');
    expect([text('etc/resolv.conf'), text('etc/hostname')]).toEqual(['', 'localhost\n']);
    expect(readdirSync(path.join(root, 'dev'))).toEqual(['pts', 'shm']);
    expect(text('etc/apt/sources.list')).toMatch(new RegExp(`^deb .* ${suite} .*\ndeb-src .* ${suite} `));
    expect(readdirSync(path.join(root, 'var/lib/apt/lists')).filter((name) => name.includes('Packages'))).toEqual([]);
    expect(statSync(path.join(root, 'usr/bin/su')).mode & 0o4000).toBe(0o4000); // modes came along
    expect(readdirSync(layoutOf(state, 'base').work)).toEqual([]);
  });

  test('what is asked wrongly is one clear line, and leaves nothing', async () => {
    const wrong: [CreateRequest, string | RegExp][] = [
      [{ name: 'base', suite }, 'the image base exists already'],
      [{ name: 'Base', suite }, /'Base' is not an image name/],
      [{ name: 'other', suite: 'nosuchsuite' }, /^unknown suite nosuchsuite: \S+ does not have nosuchsuite$/],
      [{ name: 'other', suite: 'a b' }, "'a b' is not a suite"],
      [
        { name: 'other', suite, variant: 'apt', include: ['no-such-package'] },
        /Unable to locate package no-such-package/,
      ],
    ];
    for (const [request, message] of wrong) {
      await expect(create(request)).rejects.toMatchObject({
        name: 'UsageError',
        message: expect.toSatisfy(matching(message)),
      });
    }
    expect(await imageNames(state)).toEqual(['base']);
  });

  test('a cancelled bootstrap ends at once and leaves nothing but its claim', async () => {
    const controller = new AbortController();
    const progress = (line: string): void => {
      if (line.startsWith('I: ')) controller.abort(new Error('cancelled'));
    };
    await expect(create({ name: 'half', suite, variant: 'apt' }, { progress }, controller.signal)).rejects.toThrow(
      'cancelled',
    );
    expect(await imageNames(state)).toEqual(['base']);
    expect(readdirSync(layoutOf(state, 'half').work)).toEqual([]);
    await emptyTrash(state.trash, { wait: true });
  });

  test('sid has no updates and no security: the mirror is asked', async () => {
    const osRelease = await readFile('/etc/os-release', 'utf8');
    const candidates = candidatesFor('sid', await hostTargets(never), osRelease, ['main']);
    const found = await existingSources('sid', candidates, signedBy('', 'Debian'), never);
    expect(found.map((each) => each.release)).toEqual(['sid']);
  });

  test('a commit becomes the next generation: additions, removals and replaced folders', async () => {
    const before = await head();
    await using old = await source().open(never);
    {
      await using testbed = await golden({ job: 'b7f3' });
      expect(testbed.generationId).toBe(`base@${before}`);
      const script =
        'echo new >/added; rm /etc/issue; rm -r /usr/share/doc/hello; mkdir /usr/share/doc/hello; mknod /p p';
      expect(await sh(testbed, script)).toBe('');
      await testbed.commit(never);
    }
    const record = await readHead(state, 'base');
    expect(record).toMatchObject({ generation: before + 1, parent: before, strategy: 'upgrade', job: 'b7f3' });
    expect(record.verified).toEqual(['dpkg --audit', 'apt-get check', 'fresh session']);
    await using fresh = await source().open(never);
    const look = 'cat /added; ls /etc/issue || true; ls /usr/share/doc/hello';
    expect(await sh(fresh, `${look} 2>/dev/null`)).toBe('new\n');
    expect(await sh(old, 'ls /added || echo none; cat /etc/issue')).toMatch(/^none\n\S/); // readers keep theirs
    const { all } = await showImage(state, 'base');
    expect(all.map(({ record: { generation }, pins }) => [generation, pins.length])).toEqual([
      [before + 1, 1],
      [before, 1],
    ]);
    expect((await verifyGeneration(state, 'base', undefined, never)).damaged).toEqual([]);
  });

  test('an older generation can still be opened', async () => {
    await using testbed = await source({ generation: 1 }).open(never);
    expect(await sh(testbed, 'ls /added || echo none')).toBe('none\n');
  });

  test('dispose discards, and revert begins again on the same base', async () => {
    const before = await head();
    {
      await using testbed = await golden();
      await sh(testbed, 'touch /one');
      await testbed.revert?.(never);
      expect(await sh(testbed, 'ls /one || echo none; touch /two')).toBe('none\n');
    }
    expect(await head()).toBe(before);
    expect(readdirSync(layoutOf(state, 'base').work)).toEqual([]);
  });

  test('a root that does not pass is refused with the reason; the image stays', async () => {
    const before = await readHead(state, 'base');
    const broken = {
      'dpkg --audit failed': `sed -i '/^Package: hello$/,/^$/s/^Status:.*/Status: install ok half-configured/' /var/lib/dpkg/status`,
      'apt-get check failed': `sed -i '/^Package: hello$/,/^$/s/^Depends:.*/Depends: nosuch/' /var/lib/dpkg/status`,
    };
    for (const [reason, script] of Object.entries(broken)) {
      const testbed = await golden();
      expect(await sh(testbed, script)).toBe('');
      await expect(testbed.commit(never)).rejects.toMatchObject({
        word: 'commit-failed',
        message: expect.toSatisfy(matching(new RegExp(reason))),
      });
      expect(await readHead(state, 'base')).toEqual(before);
    }
  });

  test('a second writer is refused while the first writes, and a lost lease cannot commit', async () => {
    const before = await head();
    const lost = new AbortController();
    const inner = localLeases(state, { by: 'test', wait: 0 });
    const leases: FenceSource = {
      async acquire(...asked) {
        const lease = await inner.acquire(...asked);
        return { fence: lease.fence, signal: lost.signal, [Symbol.asyncDispose]: () => lease[Symbol.asyncDispose]() };
      },
    };
    const testbed = await golden({ leases });
    await expect(golden()).rejects.toMatchObject({
      word: 'golden-locked',
      message: expect.toSatisfy(matching(/^test \(process \d+\) is writing base; waited 0 s$/)),
    });
    await sh(testbed, 'touch /lost');
    lost.abort(new ImageLeaseLost('not renewed'));
    await expect(testbed.commit(never)).rejects.toMatchObject({
      word: 'golden-changed',
      message: 'base was not written: not renewed',
    });
    expect(await head()).toBe(before);
    await using next = await golden(); // the lock is free again
    expect(next.generationId).toBe(`base@${before}`);
  });

  test('an update over the wire brings the package lists; the next one finds nothing to do', async () => {
    const before = await head();
    const statuses: string[] = [];
    for (const expected of ['published', 'unchanged']) {
      const log: string[] = [];
      const options = { copyTimeout: 0, log: (line: string) => void log.push(line), signal: never };
      const session = await Session.start(startInProcess(source({ job: expected }), options), { backend: 'overlay' });
      const request = {
        store: state,
        image: 'base',
        session,
        by: 'nightly',
        log: (text: string) => void log.push(text),
      };
      const { result, steps } = await updateImage(request, never);
      await session.quit();
      expect(log.join('')).toContain('goldbed: dist-upgrade');
      expect(result).toMatchObject({ status: expected, before: expected === 'published' ? before : before + 1 });
      expect(steps.every((step) => step.seconds >= 0)).toBe(true);
      statuses.push(result.status);
    }
    expect(statuses).toEqual(['published', 'unchanged']);
    const { head: record, looked } = await showImage(state, 'base');
    expect([record.generation, looked.unchanged?.generation]).toEqual([before + 1, before + 1]);
    expect(record.sources.some((each) => each.includes(` ${suite} `))).toBe(true);
    expect(Object.keys(record.tools)).toEqual(['apt', 'dpkg']);
  });
});

function matching(expected: string | RegExp): (message: string) => boolean {
  return (message) => (typeof expected === 'string' ? message === expected : expected.test(message));
}
