/** One table, several servers: ours, and Debian's own as the oracle. */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { run } from '../../src/exec/run.ts';
import { goldbedWithImage, smallImage, virtProgram, type Goldbed } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';
import { stockGeneration } from './fixtures/stock-generation.ts';
import { copiesWithoutPrograms } from './fixtures/straight-copies.ts';
import { describeGoldenServer } from './vectors/describe-golden-server.ts';
import { describeVirtServer, Wire } from './vectors/describe-virt-server.ts';

const node = { GOLDBED_NODE: process.execPath };
const stockNull = '/usr/bin/autopkgtest-virt-null';
const unavailable = await overlayBackend(stateAt('/nonexistent')).unavailable();
const generation = await stockGeneration();
const noStock = existsSync(stockNull) ? undefined : `${stockNull} is missing: apt-get install autopkgtest`;

describeVirtServer('goldbed-virt null', () => ({ argv: [virtProgram, 'null'], env: node, revert: false }), false);

describeWith('autopkgtest', noStock, 'stock null', () => {
  describeVirtServer(
    'autopkgtest-virt-null',
    () => ({ argv: [stockNull], revert: false, stock: true }),
    false,
    generation,
  );
});

const goldbed: Goldbed | undefined = unavailable === undefined ? await goldbedWithImage(smallImage) : undefined;
const overlay = (): { argv: string[]; env: Record<string, string>; revert: boolean } => ({
  argv: [virtProgram, 'overlay', smallImage.name],
  env: { ...node, GOLDBED_STATE: goldbed?.state ?? '', GOLDBED_GOLDEN_WAIT: '1' },
  revert: true,
});

describeWith('overlay', unavailable, 'overlay', () => {
  describeVirtServer('goldbed-virt overlay', overlay, true);

  describeGoldenServer('goldbed-virt overlay', overlay);

  test('a single file goes straight', () => copiesWithoutPrograms(overlay()));
});

test.each([
  [['nope']],
  [[]],
  [['null', 'x']],
  [['overlay', '--bogus', 'x']],
  [['overlay', 'x', '--bogus']],
  [['--golden=bogus', 'overlay', 'x']],
  [['external']],
])('usage errors end with 2 and say nothing on standard output: %j', async (args) => {
  const wire = new Wire({ argv: [virtProgram, ...args], env: node, revert: false });
  let said = '';
  wire.child.stdout?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const code = await new Promise((resolve) => wire.child.once('close', resolve));
  expect({ code, said }).toEqual({ code: 2, said: '' });
});

test('a configuration that is wrong is one line', async () => {
  const home = await mkdtemp(path.join(tmpdir(), 'goldbed-wrong-'));
  try {
    await mkdir(path.join(home, 'goldbed'));
    await writeFile(path.join(home, 'goldbed/wrong.yaml'), 'worker: { slotz: 1 }\n');
    const { code, stdout, stderr } = await run([virtProgram, 'null'], { env: { ...node, XDG_CONFIG_HOME: home } });
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^goldbed-virt: .*wrong\.yaml: .*slotz.*\n$/);
  } finally {
    await rm(home, { recursive: true });
  }
});
