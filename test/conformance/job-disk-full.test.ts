/** A disk that fills up under a running job: the job runs elsewhere, and the worker goes on. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startWorker, type RunningWorker } from '../../src/cli/run-worker.ts';
import { stateAt } from '../../src/config/state.ts';
import { isRoot } from '../../src/exec/as-root.ts';
import { check } from '../../src/exec/run.ts';
import { enqueue } from '../../src/producer/enqueue.ts';
import { showRun, waitFor } from '../../src/producer/runs.ts';
import { buildRequestSchema, type JobRequest } from '../../src/protocol/job-request.ts';
import { connectRedis } from '../../src/redis/connect.ts';
import { acquireEmbedded } from '../../src/redis/embedded.ts';
import { nullContext, nullUnavailable } from './fixtures/null-context.ts';
import { describeWith } from './fixtures/requirements.ts';
import { sizesOf } from '../../src/config/sizes.ts';
import { times } from '../../src/protocol/size.ts';

const roomFor = (slots: number) => times(sizesOf().m, slots);

const never = new AbortController().signal;

describeWith('null', isRoot() ? nullUnavailable : 'mounting takes root', 'a full disk', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'goldbed-full-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const build = (name: string): JobRequest =>
    buildRequestSchema.parse({ v: 1, kind: 'build', image: 'mine', source: { type: 'archive', package: name } });

  test('the log cannot be written any more: another host builds it, this one builds what is smaller', async () => {
    await using server = await acquireEmbedded(stateAt(path.join(folder, 'r')), never);
    await using redis = await connectRedis({ kind: 'embedded', socketPath: server.socketPath }, 'goldbed');
    const talks = 'if ($ARGV[-1] eq "big") { print "x" x 1000, "\n" for 1 .. 3000 } print "Status: successful\n";';
    const small = await nullContext(folder, server.socketPath, talks, { name: 'small' });
    const large = await nullContext(folder, server.socketPath, talks, { name: 'large' });
    await mkdir(small.state.jobs);
    await check(['/bin/mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', small.state.jobs]);
    const lines: string[] = [];
    const workers: RunningWorker[] = [];
    try {
      workers.push(await startWorker(small, { capacity: roomFor(1), log: (line) => void lines.push(line) }));
      const { runId } = await enqueue(redis, build('big'), 'amd64');
      const looked = new AbortController();
      const failed = waitFor(redis, runId, looked.signal, ({ state }) => {
        if (state === 'delayed') looked.abort(new Error('it failed there'));
      });
      await expect(failed).rejects.toThrow('it failed there');
      expect(lines.join('\n')).toMatch(new RegExp(`${runId}: retry: the log cannot be written: ENOSPC`));
      workers.push(await startWorker(large, { capacity: roomFor(1), log: () => {} }));
      expect(await waitFor(redis, runId, never)).toMatchObject({ state: 'completed', outcome: { host: 'large' } });
      workers.pop()?.stop('drain');
      await rm(path.join(small.state.jobs, runId), { recursive: true });
      const next = await enqueue(redis, build('little'), 'amd64');
      expect(await waitFor(redis, next.runId, never)).toMatchObject({ state: 'completed' });
      expect((await showRun(redis, runId)).state).toBe('completed');
    } finally {
      for (const worker of workers) worker.stop('now');
      await Promise.all(workers.map(({ finished }) => finished));
      await check(['/bin/umount', small.state.jobs]);
    }
  });
});
