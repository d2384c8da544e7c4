/**
 * A real build, a real server, default times, and no Redis for a whole minute in the middle: the build goes on, it is not
 * begun a second time, and its one result is recorded.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { testCache } from '../conformance/fixtures/base-image.ts';
import { Goldbed, goldbedWithImage, testImage } from '../conformance/fixtures/goldbed.ts';
import { leftovers, logSays } from '../conformance/fixtures/left-behind.ts';
import { describeWith } from '../conformance/fixtures/requirements.ts';
import { writeToy } from '../conformance/fixtures/toy-package.ts';

const minute = 60_000;
const unavailable = await overlayBackend(stateAt('/nonexistent')).unavailable();

/** What happens to the server, and how it comes back. */
const outages: [string, { begin(server: ChildProcess): Promise<void>; end(): Promise<void> }][] = [
  [
    'frozen',
    {
      begin: async (server) => void server.kill('SIGSTOP'),
      end: async () => void server.kill('SIGCONT'),
    },
  ],
  [
    'killed',
    {
      begin: async (running) => {
        const gone = once(running, 'exit');
        running.kill('SIGKILL');
        await gone;
      },
      end: () => serve(),
    },
  ],
];
/** When the build ends by itself, counted from the beginning of the outage, in seconds. */
const ends = [
  ['meanwhile', 20],
  ['afterwards', 80],
] as const;

let folder: string;
let server: ChildProcess;
let goldbed: Goldbed;

async function serve(): Promise<void> {
  const options = ['--port', '0', '--unixsocket', path.join(folder, 'socket'), '--dir', folder, '--appendonly', 'yes'];
  const durable = ['--appendfsync', 'always', '--maxmemory-policy', 'noeviction'];
  // redis-tools has the server, too, under another name (src/redis/server-process.ts)
  const stdio = ['ignore', 'pipe', 'inherit'] as const;
  server = spawn('/usr/bin/redis-check-rdb', [...options, ...durable], { argv0: 'redis-server', stdio: [...stdio] });
  server.once('exit', (code) => code !== null && process.stderr.write(`redis-server ended with ${code}\n`));
  await new Promise<void>((resolve) => {
    server.stdout?.on('data', (chunk: Buffer) => void (String(chunk).includes('eady to accept') && resolve()));
  });
}

describeWith('overlay', unavailable, 'a minute without Redis', () => {
  beforeAll(async () => {
    const { state } = await goldbedWithImage();
    folder = await mkdtemp(path.join(testCache(), 'outage-'));
    await serve();
    goldbed = new Goldbed(state, { GOLDBED_REDIS_URL: path.join(folder, 'socket') });
  });
  afterAll(async () => {
    server.kill('SIGKILL');
    await rm(folder, { recursive: true, force: true });
  });

  for (const [how, outage] of outages) {
    test.each(ends)(`${how}: a build that ends %s is done once, and told once`, async (when, seconds) => {
      const name = `toy-${how}-${when}`;
      const tree = await writeToy(folder, name, { build: `echo IN-THE-MIDDLE; sleep ${seconds}` });
      const worker = await goldbed.startWorker();
      const id = (await goldbed.run('build', tree, '--image', testImage)).stdout.trim();
      await logSays(goldbed, id, 'IN-THE-MIDDLE');
      await outage.begin(server);
      await delay(minute);
      await outage.end();
      // it may have ended: then its result is what counts, and not another run
      const ended = await goldbed.run('build', tree, '--image', testImage, '--wait', '--reuse', '--json');
      expect(JSON.parse(ended.stdout)).toMatchObject({
        ...{ id, state: 'completed' },
        outcome: { attempt: 1, result: { kind: 'build', exitCode: 0, status: 'successful' } },
      });
      const run = path.join(goldbed.state, 'jobs', id);
      expect(readdirSync(run).filter((each) => /^\d+$/.test(each))).toEqual(['1']);
      expect(readFileSync(path.join(run, '1/log'), 'utf8').match(/^sbuild \(Debian sbuild\)/gm)).toHaveLength(1);
      worker.child.kill('SIGTERM');
      expect((await once(worker.child, 'exit'))[0]).toBe(0);
      expect(leftovers(goldbed.state)).toEqual([]);
    });
  }
});
