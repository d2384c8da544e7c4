/** One more layer on the daemon's image of the generation before gives what importing the whole would give. */
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import path from 'node:path';
import Docker from 'dockerode';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Content } from '../../src/backends/backend.ts';
import { dockerBackend } from '../../src/backends/docker/index.ts';
import { stateAt, type State } from '../../src/config/state.ts';
import { emptyTrash } from '../../src/exec/trash.ts';
import { check } from '../../src/exec/run.ts';
import { baseRoot, testCache } from './fixtures/base-image.ts';
import { dockerUnavailable, startDockerDaemon, type DockerDaemon } from './fixtures/docker-daemon.ts';
import { describeWith } from './fixtures/requirements.ts';

const never = new AbortController().signal;
/** Short: a socket's path, in a folder of that name, has 107 bytes at the most. */
const newId = (): string => randomUUID().slice(0, 8);
/** None that another run has left in the daemon. */
const newDigest = (): string => `sha256:${createHash('sha256').update(randomUUID()).digest('hex')}`;

describeWith('docker', dockerUnavailable(), 'layers of the daemon', () => {
  let daemon: DockerDaemon;
  let client: Docker;
  let state: State;
  let root: string;
  beforeAll(async () => {
    daemon = await startDockerDaemon();
    client = new Docker({ socketPath: daemon.socket });
    root = await baseRoot();
    state = stateAt(await mkdtemp(path.join(testCache(), 'layers-')));
  });
  afterAll(async () => {
    await emptyTrash(state.trash, { wait: true });
    await rm(state.root, { recursive: true, force: true });
    await backend().reap(); // their layers are gone: so are the images
    await daemon?.[Symbol.asyncDispose]();
  });
  const backend = () => dockerBackend(state, { socket: daemon.socket, network: 'host' });
  const imageOf = (digest: string) => client.getImage(`goldbed-2:${digest.replace('sha256:', '')}`);
  const layersOf = async (digest: string): Promise<readonly string[]> =>
    (await imageOf(digest).inspect()).RootFS.Layers ?? [];

  /** An upper layer on these, by a shell script. */
  async function layerOn(lower: readonly string[], script: string): Promise<string> {
    const folder = await mkdtemp(path.join(state.root, 'layer-'));
    for (const name of ['upper', 'work', 'merged']) await mkdir(path.join(folder, name));
    const mount = 'mount -t overlay -o "lowerdir=$1,upperdir=upper,workdir=work" overlay merged && cd merged';
    const argv = ['unshare', '--mount', '--', 'sh', '-ec', `${mount}; ${script}`, 'sh', lower.toReversed().join(':')];
    await check(argv, { cwd: folder });
    return path.join(folder, 'upper');
  }

  /** The tree that a container sees, from outside: names, types, modes, owners, links, sizes, capabilities, content. */
  async function treeOf(content: Content): Promise<string> {
    const sessionId = newId();
    await using testbed = await backend().open(content, { sessionId }, never);
    void testbed;
    const label = [`goldbed.session=${sessionId}`];
    const [found] = await client.listContainers({ filters: { label } });
    const { GraphDriver } = await client.getContainer(found?.Id ?? '').inspect();
    const { MergedDir: merged } = GraphDriver?.Data as unknown as { MergedDir: string };
    const look = `find . -xdev ! -type d -printf '%p %y %m %U:%G %n %s %l\\n' -o -printf '%p %y %m %U:%G\\n' | sort
      getcap -r . | sort; find ./etc ./root ./usr/share/doc -xdev -type f -exec sha256sum {} + | sort`;
    return (await check(['/bin/sh', '-c', look], { cwd: merged })).stdout;
  }

  test('the same tree: whiteouts, opaque folders, links, modes, owners, capabilities', async () => {
    const lowest = { layers: [root], digest: newDigest() };
    await treeOf(lowest);
    expect(await layersOf(lowest.digest)).toHaveLength(1);
    const script = `rm usr/bin/wc; rm -r usr/share/doc; mkdir usr/share/doc; touch usr/share/doc/new
      echo text >root/one; ln root/one root/other; chown 12:34 root/one; chmod 4750 root/one; ln -s one root/link
      cp bin/true root/ping; setcap cap_net_raw+ep root/ping; mkfifo root/fifo; rm -r etc/apt/apt.conf.d
      echo x >dev/not-kept; chmod 711 root`;
    const upper = await layerOn([root], script);
    const layers = [root, upper];
    const added = { layers, digest: newDigest(), change: { base: lowest.digest, layer: upper } };
    const tree = await treeOf(added);
    const imported = { layers, digest: newDigest() };
    expect(tree.split('\n')).toEqual((await treeOf(imported)).split('\n'));
    expect(tree).toContain('./root/ping cap_net_raw=ep');
    expect(tree).toContain('./root/other f 4750 12:34 2 ');
    expect(tree).not.toMatch(/^\.\/(?:usr\/bin\/wc|etc\/apt\/apt\.conf\.d|dev\/not-kept) /m);
    expect(tree.match(/^\.\/usr\/share\/doc\/.*$/gm)).toHaveLength(1);
    const [own, below] = [await layersOf(added.digest), await layersOf(lowest.digest)];
    expect(own.slice(0, -1)).toEqual(below);
    expect(await layersOf(imported.digest)).toHaveLength(1);

    const settings = async (digest: string) => {
      const { Labels, Cmd, Entrypoint, Env } = (await imageOf(digest).inspect()).Config;
      return { Labels, Cmd, Entrypoint: Entrypoint ?? [], Env: Env?.filter((each) => !each.startsWith('PATH=')) ?? [] };
    };
    expect(await settings(added.digest)).toEqual(await settings(imported.digest));
    const again = await layerOn(layers, 'echo back >usr/bin/wc; rm -r usr/share/doc');
    const third = { layers: [...layers, again], digest: newDigest(), change: { base: added.digest, layer: again } };
    const seen = await treeOf(third);
    expect(seen).toContain('./usr/bin/wc f 644 0:0 1 5');
    expect(seen).not.toMatch(/^\.\/usr\/share\/doc\b[ /]/m);
    expect(await layersOf(third.digest)).toHaveLength(3);
  });

  test('a base that the daemon does not have, or too many layers: the whole is imported', async () => {
    const upper = await layerOn([root], 'echo text >root/one');
    const orphan = { layers: [root, upper], digest: newDigest(), change: { base: newDigest(), layer: upper } };
    expect(await treeOf(orphan)).toContain('./root/one f 644 0:0 1 5');
    expect(await layersOf(orphan.digest)).toHaveLength(1);
    let base = orphan.digest;
    const depths: number[] = [];
    for (let n = 0; n < 16; n += 1) {
      const next = { layers: [root, upper], digest: newDigest(), change: { base, layer: upper } };
      await using _ = await backend().open(next, { sessionId: newId() }, never);
      depths.push((await layersOf(next.digest)).length);
      base = next.digest;
    }
    expect(depths).toEqual([2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1]);
  });

  test('what a killed one left is removed by the next, and by the clean-up; an image goes with its layers', async () => {
    const folder = path.join(state.backends, 'docker');
    const name = `goldbed-layer-${createHash('sha256').update(folder).digest('hex').slice(0, 16)}`;
    const left = async (): Promise<number> =>
      (await client.listContainers({ all: true, filters: { name: ['goldbed-layer-'] } })).length;
    const lowest = { layers: [root], digest: newDigest() };
    await treeOf(lowest);
    const helper = { name, Image: `goldbed-2:${lowest.digest.replace('sha256:', '')}`, Cmd: ['/bin/true'] };
    await client.createContainer(helper);
    const upper = await layerOn([root], 'echo text >root/one');
    const added = { layers: [root, upper], digest: newDigest(), change: { base: lowest.digest, layer: upper } };
    expect(await treeOf(added)).toContain('./root/one f 644 0:0 1 5');
    expect([await left(), (await layersOf(added.digest)).length]).toEqual([0, 2]);
    await client.createContainer(helper);
    await rm(path.dirname(upper), { recursive: true });
    await backend().reap();
    expect(await left()).toBe(0);
    await expect(imageOf(added.digest).inspect()).rejects.toMatchObject({ statusCode: 404 });
    expect(await layersOf(lowest.digest)).toHaveLength(1);
  });
});
