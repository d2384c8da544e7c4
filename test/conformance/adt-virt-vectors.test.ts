/** One table, several servers: ours, and Debian's own as the oracle. */
import { existsSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { overlayBackend } from '../../src/backends/overlay/index.ts';
import { stateAt } from '../../src/config/state.ts';
import { goldbedWithImage, testImage, virtProgram, type Goldbed } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';
import { describeVirtServer, Wire } from './vectors/describe-virt-server.ts';

const node = { GOLDBED_NODE: process.execPath };
const stockNull = '/usr/bin/autopkgtest-virt-null';
const unavailable = await overlayBackend(stateAt('/nonexistent')).unavailable();
const noStock = existsSync(stockNull) ? undefined : `${stockNull} is missing: apt-get install autopkgtest`;

describeVirtServer('goldbed-virt null', () => ({ argv: [virtProgram, 'null'], env: node, revert: false }), false);

describeWith('autopkgtest', noStock, 'stock null', () => {
  describeVirtServer('autopkgtest-virt-null', () => ({ argv: [stockNull], revert: false, stock: true }), false, true);
});

const goldbed: Goldbed | undefined = unavailable === undefined ? await goldbedWithImage() : undefined;
const overlay = (): { argv: string[]; env: Record<string, string>; revert: boolean } => ({
  argv: [virtProgram, 'overlay', testImage],
  env: { ...node, GOLDBED_STATE: goldbed?.state ?? '', GOLDBED_GOLDEN_WAIT: '1' },
  revert: true,
});

describeWith('overlay', unavailable, 'overlay', () => {
  describeVirtServer('goldbed-virt overlay', overlay, true);

  describe('the golden verbs', () => {
    test('open-golden, close: discarded; the capabilities tell', async () => {
      const wire = new Wire(overlay());
      expect(await wire.ask('capabilities')).toMatch(/ golden-image$/);
      expect(await wire.ask('open-golden')).toMatch(/^ok \/\S+$/);
      expect(await wire.ask('capabilities')).toMatch(/ golden-image golden-image-id=test-image%40\d+$/);
      expect(await wire.ask('close')).toBe('ok');
      expect(await wire.quit()).toBe(0);
    });

    test('a second writer is told so, and can still read', async () => {
      const first = new Wire(overlay());
      expect(await first.ask('open-golden')).toMatch(/^ok /);
      const second = new Wire(overlay());
      const reader = new Wire(overlay());
      expect(await reader.ask('open')).toMatch(/^ok /); // a reader never waits
      const refused = second.ask('open-golden');
      expect(await reader.quit()).toBe(0);
      expect(await refused).toBe('golden-locked');
      expect(await second.ask('open')).toMatch(/^ok /);
      expect(await second.quit()).toBe(0);
      expect(await first.quit()).toBe(0);
    });

    test('kill -9 of a writer frees the image', async () => {
      const first = new Wire(overlay());
      expect(await first.ask('open-golden')).toMatch(/^ok /);
      first.child.kill('SIGKILL');
      const second = new Wire(overlay());
      expect(await second.ask('open-golden')).toMatch(/^ok /);
      expect(await second.quit()).toBe(0);
    });
  });
});

test('usage errors say nothing on standard output', async () => {
  const wire = new Wire({ argv: [virtProgram, 'nope'], env: node, revert: false });
  let said = '';
  wire.child.stdout?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const code = await new Promise((resolve) => wire.child.once('close', resolve));
  expect({ code, said }).toEqual({ code: 2, said: '' });
});
