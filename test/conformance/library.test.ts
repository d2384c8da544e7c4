/** README.md's section for other implementers is true: what it shows are the files of examples/, and they run. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { run, type Finished } from '../../src/exec/run.ts';
import { Fleet, fleetImage } from './fixtures/fleet.ts';
import { describeWith } from './fixtures/requirements.ts';
import { smallRoot } from './fixtures/small-root.ts';

const checkout = path.resolve(import.meta.dirname, '../..');
const tsx = [process.execPath, path.join(checkout, 'node_modules/tsx/dist/cli.mjs')];
const example = (name: string): string => path.join(checkout, 'examples', name);

test('the code in the README is that of examples/, all of it, and imports what the package exports', () => {
  const readme = readFileSync(path.join(checkout, 'README.md'), 'utf8');
  const section = /^## From TypeScript\n(.*?)^## Configuration/ms.exec(readme)?.[1] ?? '';
  const shown = [...section.matchAll(/\(`examples\/(.+?)`\):\n\n```ts\n(.*?)^```$/gms)].map(([, name, text]) => [
    name,
    text,
  ]);
  const files = readdirSync(path.join(checkout, 'examples')).toSorted();
  expect(Object.fromEntries(shown)).toEqual(
    Object.fromEntries(files.map((name) => [name, readFileSync(example(name), 'utf8')])),
  );
  expect(files).toEqual(['enqueue.ts', 'virt-client.ts', 'virt-server.ts']);
  for (const [, text] of shown) expect(text).toMatch(/ from 'goldbed(\/adt-virt)?'/);
});

/** By the code that the README shows: it is what the files hold. */
const client = (server: readonly string[], ...command: string[]): Promise<Finished> =>
  run([...tsx, example('virt-client.ts'), ...server, '--', ...command]);

const stockNull = '/usr/bin/autopkgtest-virt-null';
const noStock = existsSync(stockNull) ? undefined : `${stockNull} is missing: apt-get install autopkgtest`;

describeWith('autopkgtest', noStock, 'the example client and the stock null server', () => {
  test('runs a command; its status is the example’s', async () => {
    const { code, stdout, stderr } = await client([stockNull], 'sh', '-c', 'echo "on $(uname -s)"; exit 7');
    expect([code, stdout]).toEqual([7, 'on Linux\n']);
    expect(stderr).toMatch(/^capabilities: .*root-on-testbed/m);
    expect(stderr).toMatch(/^scratch directory: \/tmp\//m);
  });

  test('a server that cannot be started is an error', async () => {
    const { code, stderr } = await client(['/nonexistent/server'], 'true');
    expect(code).toBe(1);
    expect(stderr).toContain('/nonexistent/server');
  });
});

const noRoot = process.getuid?.() === 0 ? undefined : 'not root';

describeWith('chroot', noRoot, 'the example client and the example server', () => {
  const server = (folder: string): string[] => [...tsx, example('virt-server.ts'), folder];
  const copies = (): string[] => readdirSync('/var/tmp').filter((name) => name.startsWith('testbed-'));

  test('runs a command in a copy of the folder, which is gone afterwards; the folder is as it was', async () => {
    await using root = await smallRoot();
    const before = copies();
    const script = 'rm /bin/cat && touch /mark && ls /bin; ls -d /tmp/autopkgtest.*; exit 4';
    const { code, stdout, stderr } = await client(server(root.folder), 'sh', '-c', script);
    expect([code, stderr.split('\n')[0]]).toEqual([4, 'capabilities: root-on-testbed revert-full-system revert']);
    const scratch = /^scratch directory: (\S+)$/m.exec(stderr)?.[1];
    expect(stdout).toBe(`ls\nmkdir\nrm\nsh\ntouch\n${scratch}\n`);
    expect([existsSync(path.join(root.folder, 'bin/cat')), existsSync(path.join(root.folder, 'mark'))]).toEqual([
      true,
      false,
    ]);
    expect(copies()).toEqual(before);
  });

  test('revert makes the copy anew, at the same scratch path', async () => {
    await using root = await smallRoot();
    const before = copies();
    const { code, stdout } = await run(server(root.folder), { input: 'open\nrevert\nquit\n' });
    const [banner, opened, reverted, ...rest] = stdout.split('\n');
    expect([code, banner, reverted, rest]).toEqual([0, 'ok', opened, ['']]);
    expect(copies()).toEqual(before);
  });

  test('an unknown verb ends it with 12, a folder that cannot be copied with 16, and neither leaves a copy', async () => {
    const before = copies();
    const unknown = await run(server('/nonexistent'), { input: 'capabilities\nfrobnicate\n' });
    expect([unknown.code, unknown.stdout]).toEqual([12, 'ok\nok root-on-testbed revert-full-system revert\n']);
    const missing = await run(server('/nonexistent'), { input: 'open\nquit\n' });
    expect([missing.code, missing.stdout]).toEqual([16, 'ok\n']);
    expect(copies()).toEqual(before);
  });
});

const noOverlay = await overlayBackend(stateAt('/nonexistent')).unavailable();

describeWith('overlay', noOverlay, 'the example that hands in a job', () => {
  test('waits until a worker has run it, and tells how it went', async () => {
    await using fleet = await Fleet.make(1);
    fleet.hosts[0]?.start();
    const argv = [...tsx, example('enqueue.ts'), fleet.url, fleetImage, 'package-1', fleet.root];
    const { code, stdout, stderr } = await run(argv);
    expect([code, stdout], stderr).toEqual([0, 'successful\n']);
    expect(stderr).toMatch(/^b?[0-9a-f]+ new\n$/);
    await fleet.hosts[0]?.leave();
  });
});
