/** Images of virtual machines become images of ours. */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { isExecutable } from '../../src/exec/executable.ts';
import { unpackDiskImage } from '../../src/backends/qemu/disk-image.ts';
import { check } from '../../src/exec/run.ts';
import { isHostFailure } from '../../src/protocol/host-failure.ts';
import { hostSuite } from './fixtures/base-image.ts';
import { baseRoot, Goldbed } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';

const unavailable =
  process.getuid?.() !== 0
    ? 'not root: it mounts disks'
    : isExecutable('/usr/bin/qemu-img')
      ? undefined
      : '/usr/bin/qemu-img is missing: apt-get install qemu-utils';

const mega = 1024 * 1024;

/** A master boot record. @param partitions where each starts and how long it is, in megabytes */
function partitionTable(...partitions: readonly (readonly [number, number])[]): Buffer {
  const sector = Buffer.alloc(512);
  for (const [i, [start, size]] of partitions.entries()) {
    const entry = 446 + 16 * i;
    sector.writeUInt8(0x83, entry + 4);
    sector.writeUInt32LE((start * mega) / 512, entry + 8);
    sector.writeUInt32LE((size * mega) / 512, entry + 12);
  }
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

describeWith('qemu', unavailable, 'disk images', () => {
  let folder: string;
  let goldbed: Goldbed;
  const at = (name: string): string => path.join(folder, name);
  /** A disk as an installer would leave it: a small partition for the start, and the root behind it. */
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'goldbed-disks-'));
    goldbed = new Goldbed(at('state'));
    const root = await baseRoot();
    await check(['/bin/truncate', '--size=2G', at('disk.img')]);
    const table = partitionTable([1, 8], [9, 2000]);
    const place = `offset=${9 * mega}`;
    await check(['/sbin/mke2fs', '-q', '-F', '-t', 'ext4', '-E', place, '-d', root, at('disk.img'), '1500M']);
    await using disk = await open(at('disk.img'), 'r+');
    await disk.write(table, 0, table.length, 0);
    await check(['/usr/bin/qemu-img', 'convert', '-O', 'qcow2', at('disk.img'), at('disk.qcow2')]);
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  test.each(['disk.qcow2', 'disk.img'])('%s: its root, whole', async (file) => {
    const name = file.replace('.', '-');
    const made = await goldbed.run('image', 'import', name, at(file), '--json');
    expect(made.code, made.stderr).toBe(0);
    const { record } = JSON.parse(made.stdout) as { record: Record<string, unknown> };
    expect(record).toMatchObject({ image: name, strategy: 'import', recipe: { suite: await hostSuite() } });
    const layer = at(`state/images/${name}/head/layer`);
    const status = 'var/lib/dpkg/status';
    expect(await readFile(path.join(layer, status))).toEqual(await readFile(path.join(await baseRoot(), status)));
    expect(await readdir(at('state/sessions')).catch(() => [])).not.toContainEqual(expect.stringMatching(/^qemu-/));
    expect(await readFile('/proc/self/mountinfo', 'utf8')).not.toContain(folder);
  });

  test('what cannot be imported is told in one line: other files behind it, no root, no disk', async () => {
    await writeFile(at('secret'), 'x'.repeat(4096));
    const stands = ['-f', 'qcow2', '-b', at('secret'), '-F', 'raw', at('stands.qcow2')];
    await check(['/usr/bin/qemu-img', 'create', ...stands]);
    await check(['/sbin/mke2fs', '-q', '-F', '-t', 'ext4', at('empty.img'), '16M']);
    await writeFile(at('text.qcow2'), 'no disk');
    const told = async (file: string): Promise<string> => {
      const { code, stderr } = await goldbed.run('image', 'import', 'refused', at(file));
      expect(code).toBe(64);
      return stderr.replaceAll(`${folder}/`, '');
    };
    expect(await told('stands.qcow2')).toBe(
      'goldbed: stands.qcow2: stands on secret: qemu-img convert makes it one file\n',
    );
    expect(await told('empty.img')).toBe('goldbed: empty.img: no file system in it is the root of a Debian system\n');
    expect(await told('text.qcow2')).toMatch(/^goldbed: text\.qcow2: .*not in qcow2 format\n$/i);
    expect(await told('missing.qcow2')).toMatch(/^goldbed: missing\.qcow2: no such file or directory\n$/);
    expect(existsSync(at('state/images/refused'))).toBe(false);
  });

  test.each(['disk.qcow2', 'disk.img'])('%s, and no room for what is in it: the host’s failure', async (file) => {
    await mkdir(at('tiny'), { recursive: true });
    await check(['/bin/mount', '-t', 'tmpfs', '-o', 'size=1m', 'goldbed-test', at('tiny')]);
    try {
      const failure = await unpackDiskImage(at(file), at('tiny'), new AbortController().signal).catch(
        (error: unknown) => error,
      );
      expect(isHostFailure(failure), String(failure)).toBe(true);
    } finally {
      await check(['/bin/umount', at('tiny')]);
    }
  });
});
