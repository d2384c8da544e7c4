/**
 * A worker is restarted while its jobs run: their sessions go on in the old process, and the new one is in charge of them.
 * Real workers and real sessions; a job ends when the test says so.
 */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { check } from '../../src/exec/run.ts';
import { enqueue } from '../../src/producer/enqueue.ts';
import { cancelRun, showRun, waitFor } from '../../src/producer/runs.ts';
import { liveWorkers } from '../../src/producer/workers.ts';
import { jobRequestSchema } from '../../src/protocol/job-request.ts';
import { connectRedis } from '../../src/redis/connect.ts';
import { startFailingDaemon } from './fixtures/failing-daemon.ts';
import { Fleet, fleetImage, type FleetHost } from './fixtures/fleet.ts';
import { leftOnHosts } from './fixtures/fleet-history.ts';
import { Goldbed, type Ran } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';
import { patience, until } from './fixtures/until.ts';

const unavailable = await overlayBackend(stateAt('/nonexistent')).unavailable();

describeWith('overlay', unavailable, 'a worker that is restarted', () => {
  let fleet: Fleet;
  let host: FleetHost;
  beforeAll(async () => {
    fleet = await Fleet.make(1);
    [host] = fleet.hosts as [FleetHost];
  });
  afterAll(() => fleet[Symbol.asyncDispose](), 60_000);
  afterEach(() => host.end('SIGKILL'));

  test('goes on with its jobs, again and again, and heeds what is said to them', async () => {
    host.start();
    const kept = await begun('kept');
    const client = kept.client();
    const first = await restart();
    expect(first).not.toBe(host.pid);
    const other = await begun('other'); // claimed by the new process
    const third = await hand('third'); // the kept one has its slot still
    await inCharge(first, 2);
    expect(await third.state()).toBe('waiting');
    const second = await restart();
    await inCharge(second, 2);
    expect([kept.client(), await third.state()]).toEqual([client, 'waiting']);
    kept.end();
    expect(await kept.ended()).toMatchObject({ state: 'completed', outcome: { attempt: 1 } });
    expect(kept.attempts()).toEqual(['1']);
    await until(() => host.said.includes(`${kept.runId}: settled for the process that ran it: complete`));
    await third.begun();
    await cancelRun(fleet.redis, other.runId, 'enough of it'); // its session is in a process that was in charge once
    expect(await other.ended()).toMatchObject({ state: 'cancelled', failure: { message: 'enough of it' } });
    await until(() => other.client() === undefined && !existsSync(`/proc/${first}`));
    const last = await restart();
    host.signal('SIGTERM');
    await until(() => /SIGTERM: draining[^]*SIGTERM: draining/.test(host.said));
    const late = await hand('late');
    third.end();
    expect(await third.ended()).toMatchObject({ state: 'completed', outcome: { attempt: 1 } });
    expect(await host.ended()).toBe(0);
    expect([existsSync(`/proc/${last}`), await late.state()]).toEqual([false, 'waiting']);
    expect(leftOnHosts(fleet)).toEqual([]);
    await cancelRun(fleet.redis, late.runId, 'not needed');
  });

  test('is as dead as any when the process in charge is killed: its jobs run again', async () => {
    host.start();
    const kept = await begun('successor');
    process.kill(await restart(), 'SIGKILL');
    expect(await host.ended()).toBe(137);
    expect(leftOnHosts(fleet).filter((what) => !what.startsWith(host.state.workers))).toEqual([]);
    expect(await kept.state()).toBe('active'); // nobody has given it back
    await runsAgain(kept);
  });

  test('runs a job again whose session has died with its process', async () => {
    host.start();
    const first = await restart();
    const kept = await begun('keeper');
    await restart();
    process.kill(first, 'SIGKILL');
    await kept.begun(2);
    const other = await begun('main');
    process.kill(host.pid, 'SIGKILL'); // it is the parent of all of them: they end, and give back what they have
    await host.ended();
    await until(async () => (await kept.state()) === 'waiting' && (await other.state()) === 'waiting');
    host.start();
    await Promise.all([kept.begun(3), other.begun(2)]);
    for (const job of [kept, other]) job.end();
    expect(await kept.ended()).toMatchObject({ state: 'completed', outcome: { attempt: 3 } });
    expect(await other.ended()).toMatchObject({ state: 'completed', outcome: { attempt: 2 } });
    await host.leave();
    expect(leftOnHosts(fleet)).toEqual([]);
  });

  test('goes on as before when the new process cannot start, and gives its jobs back when told twice to end', async () => {
    host.start();
    const kept = await begun('failing');
    const broken = path.join(fleet.root, 'config', 'goldbed', 'zz-broken.yaml');
    writeFileSync(broken, 'worker: {slots: many}\n');
    expect(await askForRestart()).toMatchObject({
      code: 69,
      stderr: expect.stringMatching(new RegExp(`worker ${host.pid} is not restarted: process \\d+ ended with 78`)),
    });
    rmSync(broken);
    const other = await begun('meanwhile');
    await inCharge(host.pid, 2);
    await restart();
    for (const count of [1, 2]) {
      host.signal('SIGTERM');
      await until(
        () => host.said.slice(host.said.lastIndexOf('is to take over')).split('SIGTERM: ').length > 2 * count,
      );
    }
    expect(await host.ended()).toBe(0);
    expect(leftOnHosts(fleet)).toEqual([]);
    for (const job of [kept, other]) {
      expect(await job.state()).toBe('waiting');
      await cancelRun(fleet.redis, job.runId, 'not needed');
    }
    expect(await askForRestart()).toMatchObject({ code: 69, stderr: expect.stringMatching(/no worker runs in/) });
  });

  test('goes on, though the docker daemon fails at whatever it is asked', async () => {
    const daemon = await startFailingDaemon(path.join(fleet.root, 'docker.sock'));
    const config = path.join(fleet.root, 'config', 'goldbed', 'zz-docker.yaml');
    writeFileSync(config, `docker: {socket: ${fleet.root}/docker.sock}\n`);
    host.start();
    const kept = await begun('unmoved');
    await restart();
    kept.end();
    expect(await kept.ended()).toMatchObject({ state: 'completed', outcome: { attempt: 1 } });
    expect(host.said).toMatch(/^docker: not cleared away: .*no luck/m);
    await host.end('SIGTERM');
    rmSync(config);
    daemon.close();
    expect(leftOnHosts(fleet)).toEqual([]);
  });

  test('ends when it is told twice to, though Redis is away: the next one gives its jobs back', async () => {
    host.start();
    const kept = await begun('cut-off');
    host.proxy.cut();
    host.signal('SIGTERM');
    await until(() => host.said.endsWith('once more gives the running jobs back\n'));
    host.signal('SIGTERM');
    expect(await host.ended()).toBe(0);
    host.proxy.mend();
    expect([kept.client(), await kept.state()]).toEqual([undefined, 'active']);
    await runsAgain(kept);
  });

  test('keeps the right to write an image, and the embedded Redis', async () => {
    const image = 'never-updated';
    const config = path.join(fleet.root, 'config');
    const goldbed = new Goldbed(host.state.root, { XDG_CONFIG_HOME: config, GOLDBED_MIN_FREE_DISK: '1' });
    const tree = await neverUpdated(host.state.images, fleet.root);
    expect(await goldbed.run('image', 'import', image, tree)).toMatchObject({ code: 0 });
    const worker = await goldbed.startWorker();
    const { stdout } = await goldbed.run('image', 'update', image);
    await using redis = await connectRedis({ kind: 'embedded', socketPath: embeddedSocket(host) }, 'goldbed');
    const { client, keys } = redis;
    await until(async () => (await client.exists(keys.lease(image))) === 1);
    const holder = await client.get(keys.lease(image));
    worker.child.kill('SIGHUP');
    await worker.saw(/adopted 1 running job/);
    const life = await client.pttl(keys.lease(image));
    const began = performance.now();
    let renewed = 0;
    let last = life;
    await until(async () => {
      const left = await client.pttl(keys.lease(image));
      if (left > last) renewed += 1;
      last = left;
      return performance.now() - began > 1.5 * life && renewed > 1;
    });
    expect(await client.get(keys.lease(image))).toBe(holder);
    expect(await goldbed.run('cancel', stdout.trim())).toMatchObject({ code: 0 });
    await until(async () => (await client.exists(keys.lease(image))) === 0);
    const gone = once(client, 'close');
    worker.child.kill('SIGTERM');
    expect(await once(worker.child, 'exit')).toEqual([0, null]);
    expect(leftOnHosts(fleet)).toEqual([]);
    await gone; // whoever ends last ends the server
  });

  async function hand(name: string): Promise<Job> {
    const source = { type: 'archive', package: `${name}-600000` };
    const request = jobRequestSchema.parse({ v: 1, kind: 'build', image: fleetImage, source });
    const { runId } = await enqueue(fleet.redis, request, 'amd64');
    return new Job(fleet, host, runId, `${name}-600000`);
  }

  async function begun(name: string): Promise<Job> {
    const job = await hand(name);
    await job.begun();
    return job;
  }

  /** Until this process has said so, and that so many slots are taken. */
  const inCharge = (pid: number, slots: number): Promise<void> =>
    until(async () => {
      const workers = await liveWorkers(fleet.redis.client, fleet.redis.keys);
      return workers.length === 1 && workers.every((worker) => worker.pid === pid && worker.busy === slots);
    });

  async function askForRestart(): Promise<Ran> {
    await host.ready();
    return new Goldbed(host.state.root, { XDG_CONFIG_HOME: '/nonexistent' }).run('worker', 'restart');
  }

  /** By the host's next worker; nothing is left then. */
  async function runsAgain(job: Job): Promise<void> {
    host.start();
    await job.begun(2);
    job.end();
    expect(await job.ended()).toMatchObject({ state: 'completed', outcome: { attempt: 2 } });
    await host.leave();
    expect(leftOnHosts(fleet)).toEqual([]);
  }

  /** @returns the process that is in charge now */
  async function restart(): Promise<number> {
    const { code, stdout, stderr } = await askForRestart();
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const [, main, pid] = /^worker (\d+): process (\d+) has taken over$/m.exec(stdout) ?? [];
    expect(Number(main)).toBe(host.pid);
    return Number(pid);
  }
});

const embeddedSocket = ({ state }: FleetHost): string => path.join(state.redis, 'redis.sock');

/** A tree in which apt-get update does not come to an end. */
async function neverUpdated(images: string, folder: string): Promise<string> {
  const tree = path.join(folder, 'never-updated');
  await check(['/bin/cp', '--archive', path.join(images, fleetImage, 'generations/1/layer'), tree]);
  const hook = 'APT::Update::Pre-Invoke { "sleep 600000"; };\n';
  writeFileSync(path.join(tree, 'etc/apt/apt.conf.d/00never'), hook);
  return tree;
}

/** It runs until it is told to end. */
class Job {
  readonly runId: string;
  readonly #fleet: Fleet;
  readonly #name: string;
  readonly #folder: string;

  constructor(fleet: Fleet, host: FleetHost, runId: string, name: string) {
    this.#fleet = fleet;
    this.runId = runId;
    this.#name = name;
    this.#folder = path.join(host.state.jobs, runId);
  }

  /** Until an attempt is in the middle. */
  begun(attempt = 1): Promise<void> {
    const times = path.join(this.#folder, String(attempt), 'times');
    return until(() => existsSync(times) && this.client() !== undefined);
  }

  end(): void {
    for (const attempt of this.attempts()) writeFileSync(path.join(this.#folder, attempt, 'enough'), '');
  }

  ended(): ReturnType<typeof waitFor> {
    return waitFor(this.#fleet.redis, this.runId, AbortSignal.timeout(patience));
  }

  async state(): Promise<string> {
    return (await showRun(this.#fleet.redis, this.runId)).state;
  }

  attempts(): string[] {
    return readdirSync(this.#folder);
  }

  /** The process of its client. */
  client(): string | undefined {
    return readdirSync('/proc').find((pid) => {
      const argv = /^\d+$/.test(pid) ? textOf(`/proc/${pid}/cmdline`).split('\0') : [];
      return argv[0] === '/usr/bin/perl' && argv.includes(this.#name);
    });
  }
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
