/** A real worker as its operator sees it: the log as JSON, the metrics; and a deadline that passes while the job runs. */
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { debianArchitecture } from '../../src/exec/debian-architecture.ts';
import { enqueue, type EnqueueOptions } from '../../src/producer/enqueue.ts';
import { waitFor } from '../../src/producer/runs.ts';
import { buildRequestSchema } from '../../src/protocol/job-request.ts';
import { Fleet, fleetImage, type FleetHost } from './fixtures/fleet.ts';
import { leftovers, sessions } from './fixtures/left-behind.ts';
import { describeWith } from './fixtures/requirements.ts';
import { until } from './fixtures/until.ts';

const unavailable = process.getuid?.() === 0 ? await overlayBackend(stateAt('/nonexistent')).unavailable() : 'not root';
const never = new AbortController().signal;

describeWith('overlay', unavailable, 'watching a worker', () => {
  let fleet: Fleet;
  let host: FleetHost;
  let port: number;

  beforeAll(async () => {
    fleet = await Fleet.make(1);
    port = await freePort();
    const more = `worker: {log: json, metrics: ${port}}\n`;
    writeFileSync(path.join(fleet.root, 'config', 'goldbed', 'watched.yaml'), more);
    const [only] = fleet.hosts;
    if (only === undefined) throw new Error('no host');
    host = only;
    host.start();
  });
  afterAll(() => fleet?.[Symbol.asyncDispose]());

  const add = async (name: string, options: EnqueueOptions = {}): Promise<string> => {
    const source = { type: 'archive', package: name };
    const request = buildRequestSchema.parse({ v: 1, kind: 'build', image: fleetImage, source });
    return (await enqueue(fleet.redis, request, await debianArchitecture(), options)).runId;
  };

  /** The one session on the host, as soon as there is one. */
  const opened = async (): Promise<string> => {
    let session: string | undefined;
    await until(() => ([session] = sessions(host.state.root)).length > 0);
    return session as unknown as string;
  };

  test('each line of a job has its id, and that of its session once there is one; the verdict is counted', async () => {
    const runId = await add('one-2000');
    const session = (await opened()).replace(/^overlay-/, '');
    expect((await waitFor(fleet.redis, runId, never)).state).toBe('completed');
    await host.end('SIGTERM');
    const lines = logOf(fleet).filter(({ job }) => job === runId);
    expect(lines).toMatchObject([
      { msg: expect.stringMatching(`^${runId}: build on ${fleetImage}`), attempt: 1 },
      { msg: `${runId}: session ${session}`, session },
      { msg: `${runId}: successful`, session, host: 'bay0', level: 30 },
    ]);
  });

  test('the deadline of a job that runs stops it, and what it held is free within ten seconds', async () => {
    host.start();
    const runId = await add('long-600000', { deadline: Date.now() + 3_600_000 });
    await opened();
    const deadline = Date.now();
    await fleet.redis.client.zadd(fleet.redis.keys.deadlines, deadline, runId); // an hour later
    const run = await waitFor(fleet.redis, runId, never);
    expect(run).toMatchObject({ state: 'cancelled', failure: { message: 'its deadline has passed' } });
    await until(() => leftovers(host.state.root).length === 0);
    const next = await add('next-1'); // its one slot is free
    expect((await waitFor(fleet.redis, next, never)).state).toBe('completed');
    const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    expect(text).toContain('goldbed_jobs_total{kind="build",outcome="cancelled",host="bay0"} 1');
    expect(text).toContain('goldbed_jobs_total{kind="build",outcome="successful",host="bay0"} 1');
    expect(text).toMatch(/goldbed_image_refreshed_timestamp_seconds\{image="fleet",host="bay0"\} \d/);
  });
});

function logOf({ root }: Fleet): Record<string, unknown>[] {
  const lines = readFileSync(path.join(root, 'bay0.log'), 'utf8').split('\n').filter(Boolean);
  return lines.flatMap((line) => (line.startsWith('{') ? [JSON.parse(line) as Record<string, unknown>] : []));
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
