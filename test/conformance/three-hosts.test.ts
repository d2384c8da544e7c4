/**
 * Three hosts, each in a network namespace of its own; one is cut off in the middle of a real build. The build runs to its
 * end elsewhere, and what the cut-off host has to say when it is back does not count.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { stateAt } from '../../src/config/state.ts';
import { emptyTrash } from '../../src/exec/trash.ts';
import { testCache } from './fixtures/base-image.ts';
import { Goldbed, goldbedWithImage } from './fixtures/goldbed.ts';
import { leftovers } from './fixtures/left-behind.ts';
import { configured, Network, partitionUnavailable, stateWithImage, type NetworkHost } from './fixtures/partition.ts';
import { describeWith } from './fixtures/requirements.ts';
import { writeToy } from './fixtures/toy-package.ts';

/** With what sbuild would fetch for a package that needs nothing. */
const offline = { name: 'offline', variant: 'buildd', include: 'fakeroot' };

describeWith('network', await partitionUnavailable(), 'three hosts', () => {
  let root: string;
  let network: Network;
  let hosts: NetworkHost[];
  let goldbed: Goldbed;

  beforeAll(async () => {
    const { state } = await goldbedWithImage(offline);
    // package lists in the image: the hosts have no way out of their network
    expect((await new Goldbed(state).run('image', 'update', offline.name, '--wait')).code).toBe(0);
    root = await mkdtemp(path.join(testCache(), 'hosts-'));
    await mkdir(path.join(root, 'redis'));
    network = await Network.make(path.join(root, 'redis'));
    const config = await configured(path.join(root, 'config'), 'fleet: {heartbeat: 0.5}\n');
    hosts = [];
    for (const name of ['bay0', 'bay1', 'bay2']) {
      const own = await stateWithImage(path.join(root, name), stateAt(state), offline.name);
      hosts.push(await network.join(name, own, { XDG_CONFIG_HOME: config }));
    }
    goldbed = new Goldbed(path.join(root, 'bay0'), { GOLDBED_REDIS_URL: network.url, XDG_CONFIG_HOME: config });
    // input files of jobs are in the state folder of the one who hands in: here all hosts see it
    for (const { state: own } of hosts.slice(1)) await shareArtifacts(goldbed.state, own.root);
    for (const host of hosts) await host.start();
  });
  afterAll(async () => {
    await network?.[Symbol.asyncDispose]();
    for (const { state } of hosts ?? []) await emptyTrash(state.trash, { wait: true });
    await rm(root, { recursive: true, force: true, maxRetries: 5 });
  });

  const json = (text: string): any => JSON.parse(text); // oxlint-disable-line typescript/no-explicit-any -- checked below
  const begun = (host: NetworkHost, id: string): boolean => {
    const folder = path.join(host.state.jobs, id);
    const logs = existsSync(folder) ? readdirSync(folder).map((attempt) => path.join(folder, attempt, 'log')) : [];
    return logs.some((log) => existsSync(log) && readFileSync(log, 'utf8').includes('IN-THE-MIDDLE\n'));
  };
  const hostThat = async (does: (host: NetworkHost) => boolean): Promise<NetworkHost> => {
    for (;;) {
      const found = hosts.find(does);
      if (found !== undefined) return found;
      await delay(20); // a look that spins would take a processor from the hosts
    }
  };

  test('one is cut off in the middle of a build: one result, of another host', { timeout: 300_000 }, async () => {
    const tree = await writeToy(root, 'toy-cut', { build: 'echo IN-THE-MIDDLE; sleep 5' });
    const { stdout, stderr, code } = await goldbed.run('build', tree, '--image', offline.name);
    expect(code, stderr).toBe(0);
    const id = stdout.trim();
    const lost = await hostThat((host) => begun(host, id));
    await lost.cut();
    const other = await hostThat((host) => host !== lost && begun(host, id));
    const ended = await goldbed.run('build', tree, '--image', offline.name, '--wait', '--json');
    expect(json(ended.stdout)).toMatchObject({ id, outcome: { host: other.name, result: { status: 'successful' } } });
    await lost.mend();
    await lost.says(new RegExp(`${id}: hands-off: `));
    const { state, outcome } = json((await goldbed.run('show', id, '--json')).stdout);
    expect({ state, host: outcome.host }).toEqual({ state: 'completed', host: other.name });
    // it is back, and takes jobs again
    for (const host of hosts) if (host !== lost) await host.end('SIGTERM');
    const next = await writeToy(root, 'toy-after');
    const after = await goldbed.run('build', next, '--image', offline.name, '--wait', '--json');
    expect(json(after.stdout)).toMatchObject({ outcome: { host: lost.name, result: { status: 'successful' } } });
    await lost.end('SIGTERM');
    for (const host of hosts) expect(leftovers(host.state.root)).toEqual([]);
  });
});

async function shareArtifacts(from: string, to: string): Promise<void> {
  await mkdir(stateAt(from).artifacts, { recursive: true });
  await symlink(stateAt(from).artifacts, stateAt(to).artifacts);
}
