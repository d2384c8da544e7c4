/**
 * Of the qemu backend only what needs no machine: without KVM one takes half a minute for each start, and its image minutes.
 * All the rest is in the project "nightly" (test/nightly/qemu*.test.ts).
 */
import { expect, test } from 'vitest';
import { qemuUnavailable } from '../../src/backends/qemu/emulator.ts';
import { run } from '../../src/exec/run.ts';
import { goldbedWithImage, smallImage, virtProgram } from './fixtures/goldbed.ts';
import { describeWith } from './fixtures/requirements.ts';

describeWith('qemu', qemuUnavailable(), 'qemu', () => {
  test('an image without a kernel is told, with the packages that it lacks', async () => {
    const small = await goldbedWithImage(smallImage);
    const ran = await run([virtProgram, 'qemu', smallImage.name], {
      env: { GOLDBED_NODE: process.execPath, GOLDBED_STATE: small.state },
      input: 'open\n',
    });
    expect(ran.code).toBe(16);
    expect(ran.stderr).toContain(
      'this image has no kernel, so qemu cannot start it: make one with --include linux-image-cloud-amd64,systemd-sysv',
    );
  });
});
