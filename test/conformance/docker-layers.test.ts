/**
 * One more layer on the daemon's image of the generation before: the image holds, to the byte and the attribute, what
 * overlayfs shows of the generation's layers. Compared from outside, as two overlay mounts: no container adds to it.
 */
import { createHash, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import Docker from 'dockerode';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Content } from '../../src/backends/backend.ts';
import { dockerBackend } from '../../src/backends/docker/index.ts';
import { inMergedTree } from '../../src/backends/layers/merged.ts';
import { stateAt, type State } from '../../src/config/state.ts';
import { flattenCurrent } from '../../src/golden/index.ts';
import { layoutOf } from '../../src/golden/layout.ts';
import { contentOf } from '../../src/golden/stack.ts';
import { readHead } from '../../src/golden/store.ts';
import { decodeArgv } from '../../src/protocol/adt-virt/words.ts';
import { emptyTrash } from '../../src/exec/trash.ts';
import { check } from '../../src/exec/run.ts';
import { testCache } from './fixtures/base-image.ts';
import { changes, look } from './fixtures/changed-tree.ts';
import { dockerUnavailable, startDockerDaemon, type DockerDaemon } from './fixtures/docker-daemon.ts';
import { baseRoot, Goldbed, virtProgram } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';
import { Wire } from './vectors/describe-virt-server.ts';

/** One for each open: they listen to it for as long as it lives. */
const never = (): AbortSignal => new AbortController().signal;
/** Short: a socket's path, in a folder of that name, has 107 bytes at the most. */
const newId = (): string => randomUUID().slice(0, 8);
/** None that another run has left in the daemon. */
const newDigest = (): string => `sha256:${createHash('sha256').update(randomUUID()).digest('hex')}`;
const tagOf = (digest: string): string => digest.replace('sha256:', '');

describeWith('docker', dockerUnavailable(), 'layers of the daemon', () => {
  let daemon: DockerDaemon;
  let client: Docker;
  let state: State;
  let root: string;
  let lowest: { readonly layers: readonly string[]; readonly digest: string };
  beforeAll(async () => {
    daemon = await startDockerDaemon();
    client = new Docker({ socketPath: daemon.socket });
    root = await baseRoot();
    state = stateAt(await mkdtemp(path.join(testCache(), 'layers-')));
    await mkdir(trees());
    lowest = { layers: [root], digest: newDigest() };
    expect(await opened(lowest)).toEqual(await treeOf([root]));
  });
  afterAll(async () => {
    await emptyTrash(state.trash, { wait: true });
    for (const made of [trees(), state.images]) await rm(made, { recursive: true, force: true });
    await backend().reap(); // their layers are gone: so are the images
    await rm(state.root, { recursive: true, force: true });
    await daemon?.[Symbol.asyncDispose]();
  });
  const backend = () => dockerBackend(state, { socket: daemon.socket, network: 'host' });
  const trees = () => path.join(state.root, 'trees');
  const imagesFolder = () => path.join(state.backends, 'docker');
  const imageOf = (digest: string) => client.getImage(`goldbed-2:${tagOf(digest)}`);
  const layersOf = async (digest: string): Promise<readonly string[]> =>
    (await imageOf(digest).inspect()).RootFS.Layers ?? [];
  const tags = async (): Promise<string[]> =>
    (await client.listImages({ filters: { reference: ['goldbed-2:candidate-*'] } })).flatMap(
      ({ RepoTags }) => RepoTags ?? [],
    );
  const helpers = async (): Promise<number> =>
    (await client.listContainers({ all: true, filters: { name: ['goldbed-layer-'] } })).length;

  /** An upper layer on these, made by a shell script. */
  async function layerOn(lower: readonly string[], script: string, options = ''): Promise<string> {
    const folder = await mkdtemp(path.join(trees(), 'layer-'));
    for (const name of ['upper', 'work', 'merged']) await mkdir(path.join(folder, name));
    const mount = `mount -t overlay -o "lowerdir=$1,upperdir=upper,workdir=work${options}" overlay merged && cd merged`;
    const argv = ['unshare', '--mount', '--', 'sh', '-ec', `${mount}; ${script}`, 'sh', lower.toReversed().join(':')];
    await check(argv, { cwd: folder });
    return path.join(folder, 'upper');
  }

  async function treeOf(layers: readonly string[]): Promise<string[]> {
    const [empty = '', mountPoint = ''] = await Promise.all(
      ['empty-', 'at-'].map((name) => mkdtemp(path.join(trees(), name))),
    );
    // with an empty one below: a mount in any case, which hides the marks
    const argv = inMergedTree({ layers: [empty, ...layers] }, mountPoint, look, []);
    const lines = (await check(argv)).stdout.split('\n');
    return lines.filter((line) => !/^(?:dev|proc|sys)\//.test(line)); // the daemon's own in each container
  }

  /** Of an image of the daemon, as its driver stacks it. */
  async function treeOfImage(digest: string): Promise<string[]> {
    const container = await client.createContainer({ Image: `goldbed-2:${tagOf(digest)}` });
    try {
      const { LowerDir = '' } = (await container.inspect()).GraphDriver.Data as unknown as Record<string, string>;
      const [init = '', ...lower] = LowerDir.split(':');
      expect(init).toMatch(/-init\/diff$/); // what the daemon puts over the image
      return await treeOf(lower.toReversed());
    } finally {
      await container.remove();
    }
  }

  /** Opens a session on it, and looks. */
  async function opened(content: Content & { readonly digest: string }): Promise<string[]> {
    await using testbed = await backend().open(content, { sessionId: newId() }, never());
    await check([...testbed.auxverb, '/bin/true']);
    const tree = await treeOfImage(content.digest);
    return tree;
  }

  test('the same tree as on overlay, and of an image that was imported whole; three layers deep', async () => {
    const upper = await layerOn([root], changes);
    const layers = [root, upper];
    const added = { layers, digest: newDigest(), change: { base: lowest.digest, layer: upper } };
    const wanted = await treeOf(layers);
    expect(await opened(added)).toEqual(wanted);
    const [own, below] = [await layersOf(added.digest), await layersOf(lowest.digest)];
    expect([own.slice(0, -1), below.length]).toEqual([below, 1]);

    const text = wanted.join('\n');
    expect(text).toContain('root/other f 4750 12:34 2 ');
    expect(text).toContain('root/ping f ');
    expect(text).not.toMatch(/^(?:usr\/bin\/wc|etc\/apt\/apt\.conf\.d\/.*) /m);
    expect(text.match(/^usr\/share\/doc\/.*$/gm)).toHaveLength(1);

    const imported = { layers, digest: newDigest() };
    expect(await opened(imported)).toEqual(wanted);
    expect(await layersOf(imported.digest)).toHaveLength(1);
    const settings = async (digest: string) => {
      const { Labels, Cmd, Entrypoint, Env, Volumes, WorkingDir } = (await imageOf(digest).inspect()).Config;
      return { Labels, Cmd, Entrypoint: Entrypoint ?? [], Volumes: Volumes ?? {}, WorkingDir, Env: Env ?? [] };
    };
    expect(await settings(added.digest)).toEqual(await settings(imported.digest));

    const again = await layerOn(
      layers,
      'echo back >usr/bin/wc; rm -r usr/share/doc; rm root/one; mkdir usr/share/man2',
    );
    const third = { layers: [...layers, again], digest: newDigest(), change: { base: added.digest, layer: again } };
    expect(await opened(third)).toEqual(await treeOf(third.layers));
    expect(await layersOf(third.digest)).toHaveLength(3);
  });

  /** What the daemon would leave out of a layer of its own. tar makes attributes: no host need have a program for them. */
  const attribute = (keyword: string): string =>
    `tar -C etc --format=pax --pax-option='SCHILY.xattr.${keyword}:=kept' -c passwd | tar -C root --xattrs --xattrs-include='*' -x`;
  test.each([
    ['attributes of users', attribute('user.goldbed'), ''],
    ['a renamed folder that overlayfs redirects', 'mv usr/share/doc usr/share/elsewhere', ',redirect_dir=on'],
  ])('%s: the whole is imported, and nothing is lost', async (_, script, options) => {
    const upper = await layerOn([root], script, options);
    const layers = [root, upper];
    const next = { layers, digest: newDigest(), change: { base: lowest.digest, layer: upper } };
    expect(await opened(next)).toEqual(await treeOf(layers));
    expect(await layersOf(next.digest)).toHaveLength(1);
    expect(await helpers()).toBe(0);
  });

  test('a symbolic link in the place of /dev leads nobody out of the layer', async () => {
    const victim = await mkdtemp(path.join(state.root, 'victim-'));
    await writeFile(path.join(victim, 'file'), 'text');
    const upper = await layerOn([root], `rm -r dev sys; ln -s ${victim} dev; ln -s ${victim} sys`);
    const next = { layers: [root, upper], digest: newDigest(), change: { base: lowest.digest, layer: upper } };
    await opened(next).catch(() => {}); // whether it can be started is the daemon's affair
    expect(await layersOf(next.digest)).toHaveLength(2);
    expect(existsSync(path.join(victim, 'file'))).toBe(true);
  });

  test('a base that the daemon does not have, or too many layers: the whole is imported', async () => {
    const upper = await layerOn([root], 'echo text >root/one');
    const layers = [root, upper];
    const orphan = { layers, digest: newDigest(), change: { base: newDigest(), layer: upper } };
    expect(await opened(orphan)).toEqual(await treeOf(layers));
    expect(await layersOf(orphan.digest)).toHaveLength(1);
    let base = orphan.digest;
    const depths: number[] = [];
    for (let n = 0; n < 16; n += 1) {
      const next = { layers, digest: newDigest(), change: { base, layer: upper } };
      await using _ = await backend().open(next, { sessionId: newId() }, never());
      depths.push((await layersOf(next.digest)).length);
      base = next.digest;
    }
    expect(depths).toEqual([2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1]);
  });

  test('six sessions at once make one layer; a candidate has an image while its session is open', async () => {
    const upper = await layerOn([root], 'echo text >root/one');
    const change = { base: lowest.digest, layer: upper };
    const next = { layers: [root, upper], digest: newDigest(), change };
    const sessions = await Promise.all(
      [...Array(6).keys()].map(() => backend().open(next, { sessionId: newId() }, never())),
    );
    await Promise.all(sessions.map((session) => session[Symbol.asyncDispose]()));
    expect(await layersOf(next.digest)).toHaveLength(2);
    const unnamed = async (): Promise<number> =>
      (await client.listImages({ filters: { dangling: ['true'], label: ['goldbed.image=1'] } })).length;
    const before = await unnamed();
    const sessionId = newId();
    const candidate = await backend().open({ layers: [root, upper], change }, { sessionId }, never());
    expect((await check([...candidate.auxverb, '/bin/cat', '/root/one'])).stdout).toBe('text\n');
    expect(await tags()).toEqual([`goldbed-2:candidate-${sessionId}`]);
    await candidate[Symbol.asyncDispose]();
    expect([await tags(), await helpers(), await unnamed()]).toEqual([[], 0, before]);
  });

  test('layers that were flattened meanwhile: the image stays, and is there for as long as the new ones are', async () => {
    const upper = await layerOn([root], 'echo text >root/one');
    const digest = newDigest();
    await opened({ layers: [root, upper], digest });
    const { Id } = await imageOf(digest).inspect();
    const flat = await layerOn([root], 'echo text >root/one'); // of the same content: that is the store's affair
    await opened({ layers: [root, flat], digest });
    await rm(path.dirname(upper), { recursive: true });
    await backend().reap();
    expect((await imageOf(digest).inspect()).Id).toBe(Id);
    await rm(path.dirname(flat), { recursive: true });
    await backend().reap();
    await expect(imageOf(digest).inspect()).rejects.toMatchObject({ statusCode: 404 });
  });

  test('what killed ones left goes with the next clean-up; an image with its layers; a base stays below others', async () => {
    const name = `goldbed-layer-${createHash('sha256').update(imagesFolder()).digest('hex').slice(0, 16)}`;
    const helper = { name, Image: `goldbed-2:${tagOf(lowest.digest)}`, Cmd: ['/bin/true'] };
    await client.createContainer(helper);
    const middle = await layerOn([root], 'echo text >root/one');
    const base = { layers: [root, middle], digest: newDigest(), change: { base: lowest.digest, layer: middle } };
    await opened(base);
    const upper = await layerOn(base.layers, 'echo text >root/two');
    const added = { layers: [root, upper], digest: newDigest(), change: { base: base.digest, layer: upper } };
    await opened(added);
    expect([await helpers(), (await layersOf(added.digest)).length]).toEqual([0, 3]);

    await client.createContainer(helper);
    await mkdir(path.join(imagesFolder(), 'merged-left'));
    const gone = await layerOn([root], 'echo text >root/one');
    await writeFile(path.join(imagesFolder(), 'candidate-left.layers.json'), JSON.stringify([root, gone]));
    await imageOf(added.digest).tag({ repo: 'goldbed-2', tag: 'candidate-left' });
    await rm(path.dirname(gone), { recursive: true });
    await backend().reap();
    expect([await helpers(), await tags()]).toEqual([0, []]);
    expect((await readdir(imagesFolder())).filter((each) => /merged|candidate/.test(each))).toEqual([]);

    await using kept = await backend().open(added, { sessionId: newId() }, never());
    await rm(path.dirname(middle), { recursive: true });
    await backend().reap(); // as if the generation below had been collected, after this one had been flattened
    await expect(imageOf(base.digest).inspect()).rejects.toMatchObject({ statusCode: 404 });
    expect((await check([...kept.auxverb, '/bin/cat', '/root/one', '/root/two'])).stdout).toBe('text\ntext\n');
  });

  test('a daemon that was started again has the base, and makes the layer', async () => {
    await daemon[Symbol.asyncDispose]();
    daemon = await startDockerDaemon();
    client = new Docker({ socketPath: daemon.socket });
    const upper = await layerOn([root], changes);
    const layers = [root, upper];
    const next = { layers, digest: newDigest(), change: { base: lowest.digest, layer: upper } };
    expect(await opened(next)).toEqual(await treeOf(layers));
    expect(await layersOf(next.digest)).toHaveLength(2);
  });

  test('generations of a real image: written through docker or overlay, flattened or not, each adds its own layer', async () => {
    const env = { GOLDBED_DOCKER_SOCKET: daemon.socket, GOLDBED_DOCKER_NETWORK: 'host' };
    const goldbed = new Goldbed(state.root, env);
    const made = await goldbed.run('image', 'import', 'layered', root);
    expect(made.code, made.stderr).toBe(0);
    /** A session by the command line; its server removes what it made in the daemon. */
    const session = async (backendName: string, verb: string, script: string): Promise<void> => {
      const server = { argv: [virtProgram, backendName, 'layered'], env: { ...env, GOLDBED_STATE: state.root } };
      const wire = new Wire({ ...server, env: { ...server.env, GOLDBED_NODE: process.execPath }, revert: true });
      expect(await wire.ask(verb)).toMatch(/^ok /);
      const auxverb = decodeArgv((await wire.ask('print-execute-command')).slice(3));
      await check([...auxverb, '/bin/sh', '-ec', script]);
      if (verb === 'open-golden') expect(await wire.ask('commit-golden')).toBe('ok');
      expect(await wire.quit()).toBe(0);
    };
    const seen: number[] = [];
    const lookAtHead = async (): Promise<void> => {
      await session('docker', 'open', 'true');
      const head = await readHead(state, 'layered');
      const { layers } = contentOf(layoutOf(state, 'layered'), head);
      expect(await treeOfImage(head.digest)).toEqual(await treeOf(layers));
      seen.push((await layersOf(head.digest)).length, layers.length);
    };
    await lookAtHead();
    await session('docker', 'open-golden', 'rm /usr/bin/wc; rm -r /usr/share/doc; echo 2 >/root/two');
    await lookAtHead();
    await flattenCurrent(state, 'layered', { from: 2 }, never());
    await lookAtHead();
    await session('overlay', 'open-golden', 'echo 3 >/usr/bin/wc; mkdir /usr/share/doc; chmod 600 /root/two');
    await session('docker', 'open-golden', 'rm /root/two; mkdir /root/two'); // the daemon has not seen what overlay made
    await lookAtHead();
    expect(seen).toEqual([1, 1, 2, 2, 2, 1, 4, 3]);
    expect([await tags(), await helpers()]).toEqual([[], 0]);
  });
});
