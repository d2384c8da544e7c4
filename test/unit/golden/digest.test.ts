import { execFileSync } from 'node:child_process';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { chmod, lchown, mkdir, symlink, utimes, writeFile } from 'node:fs/promises';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { isRoot } from '../../../src/exec/as-root.ts';
import { digestLayer, dropSockets } from '../../../src/golden/digest.ts';
import { digestOfLayers } from '../../../src/golden/record.ts';
import { never, temporaryState } from './fixtures/images.ts';

async function tree(root: string): Promise<string> {
  await mkdir(path.join(root, 'b/d'), { recursive: true });
  await writeFile(path.join(root, 'b/file'), 'text');
  await writeFile(path.join(root, 'a'), 'text');
  await symlink('nowhere', path.join(root, 'link'));
  for (const name of ['b/file', 'a', 'b/d', 'b', '.']) await utimes(path.join(root, name), 1e9, 1e9);
  execFileSync('touch', ['--no-dereference', '--date=@1000000000', path.join(root, 'link')]);
  return root;
}

test('equal trees have equal digests, as the documented command computes them', async () => {
  await using state = await temporaryState();
  const [one, other] = [await tree(`${state.root}/one`), await tree(`${state.root}/other`)];
  const digest = await digestLayer(one, never);
  expect(await digestLayer(other, never)).toEqual(digest);
  if (!isRoot()) return;
  const byHand = execFileSync('sh', [
    '-c',
    `tar --create --directory="$1" --sort=name --numeric-owner --xattrs --xattrs-include='*' --format=pax \
       --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime . | sha256sum`,
    'sh',
    one,
  ]);
  expect(`sha256:${byHand.toString().split(' ')[0]}`).toBe(digest.digest);
});

test('any change changes it: content, mode, time, link, name', async () => {
  await using state = await temporaryState();
  const changes: ((root: string) => Promise<void>)[] = [
    async () => {},
    (root) => writeFile(path.join(root, 'a'), 'texT'),
    (root) => chmod(path.join(root, 'a'), 0o600),
    (root) => utimes(path.join(root, 'a'), 1e9, 1e9 + 1),
    (root) => symlink('x', path.join(root, 'new')),
    (root) => (isRoot() ? lchown(path.join(root, 'a'), 7, 7) : chmod(path.join(root, 'a'), 0o640)),
  ];
  const digests = new Set<string>();
  for (const [index, change] of changes.entries()) {
    const root = await tree(`${state.root}/${index}`);
    await change(root);
    digests.add((await digestLayer(root, never)).digest);
  }
  expect(digests.size).toBe(changes.length);
});

test.runIf(isRoot())("overlayfs's whiteouts and marks are part of it", async () => {
  await using state = await temporaryState();
  await mkdir(`${state.root}/lower/dir`, { recursive: true });
  await writeFile(`${state.root}/lower/dir/old`, '');
  await writeFile(`${state.root}/lower/gone`, '');
  for (const name of ['upper', 'work', 'merged']) await mkdir(`${state.root}/${name}`);
  const digests = [(await digestLayer(`${state.root}/upper`, never)).digest];
  // in one go, then without the mark: rm + mkdir of a lower directory marks the new one as opaque
  const mount = 'mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay merged && cd merged';
  for (const script of ['rm gone', 'rm -r dir', 'mkdir dir']) {
    execFileSync('unshare', ['--mount', 'sh', '-ec', `${mount} && ${script}`], { cwd: state.root });
    await utimes(`${state.root}/upper`, 1e9, 1e9);
    digests.push((await digestLayer(`${state.root}/upper`, never)).digest);
  }
  await mkdir(`${state.root}/plain/dir`, { recursive: true });
  execFileSync('sh', ['-c', 'cp -a upper/gone plain/ && touch -r upper/dir plain/dir && touch -r upper plain'], {
    cwd: state.root,
  });
  digests.push((await digestLayer(`${state.root}/plain`, never)).digest); // the same names without the mark
  expect(new Set(digests).size).toBe(digests.length);
});

test('sockets are dropped: tar cannot hold them', async () => {
  await using state = await temporaryState();
  await mkdir(`${state.root}/layer/run`, { recursive: true });
  await writeFile(`${state.root}/layer/run/file`, '');
  const server = createServer().listen(`${state.root}/layer/run/socket`);
  await once(server, 'listening');
  await dropSockets(`${state.root}/layer`, never);
  expect(readdirSync(`${state.root}/layer/run`)).toEqual(['file']);
  server.close();
});

test('a layer that cannot be read has no digest', async () => {
  await expect(digestLayer('/nonexistent', never)).rejects.toThrow(/\/nonexistent.*No such file/);
});

test('the digest of a stack can be computed with printf and sha256sum', () => {
  const layers = [{ digest: 'sha256:aa' }, { digest: 'sha256:bb' }];
  const byHand = execFileSync('sh', ['-c', String.raw`printf '%s\n' sha256:aa sha256:bb | sha256sum`]).toString();
  expect(digestOfLayers(layers)).toBe(`sha256:${byHand.split(' ')[0]}`);
});
