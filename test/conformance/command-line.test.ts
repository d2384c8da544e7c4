/** What a person at a terminal meets beside the verdicts: files that are fetched, logs that are followed, wires that are cut. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { type Goldbed, goldbedWithImage, program, testImage } from './fixtures/goldbed.ts';
import { leftovers, logSays } from './fixtures/left-behind.ts';
import { describeWith } from './fixtures/requirements.ts';
import { writeToy } from './fixtures/toy-package.ts';

const unavailable = await overlayBackend(stateAt('/nonexistent')).unavailable();

describeWith('overlay', unavailable, 'the command line', () => {
  let goldbed: Goldbed;
  let folder: string;
  beforeAll(async () => {
    goldbed = await goldbedWithImage();
  });
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'goldbed-cli-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const out = (): string => path.join(folder, 'out');

  /** As a shell runs it. */
  const shell = (command: string): Promise<{ stdout: string; stderr: string }> =>
    new Promise((resolve) => {
      execFile('/bin/sh', ['-c', command, 'sh', program], { env: goldbed.env }, (_, stdout, stderr) =>
        resolve({ stdout, stderr }),
      );
    });

  test('-o of a failed build gives its log; of an update, too', async () => {
    const tree = await writeToy(folder, 'toy-logged', { build: 'echo WHAT-WENT-WRONG; exit 1' });
    const built = await goldbed.run('build', tree, '--image', testImage, '-o', out());
    expect(built.code, built.stderr).toBe(2);
    const name = (await readdir(out())).find((each) => /^toy-logged_1\.0_[a-z0-9]+\.build$/.test(each)) ?? '';
    expect(await readFile(path.join(out(), name), 'utf8')).toContain('WHAT-WENT-WRONG');

    const updated = await goldbed.run('image', 'update', testImage, '--steps', 'c', '-o', path.join(folder, 'update'));
    expect(updated.code, updated.stderr).toBe(0);
    expect(await readFile(path.join(folder, 'update', 'log'), 'utf8')).toContain('goldbed: clean');
  });

  test('logs -f follows a job to its end; a reader that leaves early is no error', async () => {
    const tree = await writeToy(folder, 'toy-followed', { build: 'echo IN-THE-MIDDLE; sleep 2; echo AT-THE-END' });
    const worker = await goldbed.startWorker();
    const runId = (await goldbed.run('build', tree, '--image', testImage)).stdout.trim();
    await logSays(goldbed, runId, 'IN-THE-MIDDLE');
    expect((await goldbed.run('show', runId)).stdout).toMatch(new RegExp(`files: .*${runId}/1`));
    const followed = await goldbed.run('logs', '-f', runId);
    expect(followed.stdout).toBe((await goldbed.run('logs', runId)).stdout);
    expect(followed.stdout).toMatch(/AT-THE-END[^]*Status: successful/);
    const part = await goldbed.run('logs', runId, '--section', 'build');
    expect(part.stdout).toMatch(/^\| Build +\|\n[^]*IN-THE-MIDDLE\nAT-THE-END\n/);
    expect(part.stdout).not.toMatch(/Update chroot|Status: successful/);
    const none = await goldbed.run('logs', runId, '--section', 'lintian');
    expect([none.code, none.stdout]).toEqual([64, '']);
    expect(none.stderr).toContain(`${runId}: no section "lintian" in its log (there is: `);
    const cut = await shell(`"$1" logs ${runId} | head -n 1`);
    expect(cut).toEqual({ stdout: followed.stdout.split('\n')[0] + '\n', stderr: '' });
    worker.child.kill('SIGTERM');
    await once(worker.child, 'exit');
  });

  test('a command that works for itself does no more than its own job, and leaves nothing when its terminal closes', async () => {
    const own = await writeToy(folder, 'toy-own', { build: 'echo IN-THE-MIDDLE; sleep 1' });
    const strangers = await writeToy(folder, 'toy-strangers', { build: 'echo IN-THE-MIDDLE; sleep 1000' });
    const waiting = spawn(program, ['build', own, '--image', testImage, '--wait'], { env: goldbed.env, stdio: 'pipe' });
    const ended = once(waiting, 'exit');
    const [line] = (await once(waiting.stderr, 'data')) as [Buffer];
    const ownId = line.toString().split(' ')[0] ?? '';
    await logSays(goldbed, ownId, 'IN-THE-MIDDLE');
    const left = (await goldbed.run('build', strangers, '--image', testImage)).stdout.trim();
    expect((await ended)[0]).toBe(0);
    expect((await goldbed.run('show', left)).stdout).toMatch(/waiting/);

    const hungUp = spawn(program, ['build', strangers, '--image', testImage, '--wait'], {
      env: goldbed.env,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let said = '';
    hungUp.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    await logSays(goldbed, left, 'IN-THE-MIDDLE');
    hungUp.kill('SIGHUP');
    expect((await once(hungUp, 'exit'))[0]).toBe(130);
    expect(said).toMatch(/detached; it ran here, and waits in the queue again/);
    expect(leftovers(goldbed.state)).toEqual([]);
    expect((await goldbed.run('cancel', left)).code).toBe(0);
  });
});
