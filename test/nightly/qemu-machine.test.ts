/** One machine of qemu's, and all that can be asked of it; qemu.test.ts has the tables of the protocol. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { qemuUnavailable } from '../../src/backends/qemu/emulator.ts';
import { ended, run, start } from '../../src/exec/run.ts';
import { decodeArgv } from '../../src/protocol/adt-virt/words.ts';
import type { Goldbed } from '../conformance/fixtures/goldbed.ts';
import { goldbedWithMachine, qemuServer } from '../conformance/fixtures/machine-image.ts';
import { describeWith } from '../conformance/fixtures/requirements.ts';
import { Wire } from '../conformance/vectors/describe-virt-server.ts';

describeWith('qemu', qemuUnavailable(), 'qemu', () => {
  let goldbed: Goldbed;
  beforeAll(async () => {
    goldbed = await goldbedWithMachine();
  });

  test('one machine: status, streams, signals, many commands at once; close leaves nothing', async () => {
    const wire = new Wire(qemuServer(goldbed));
    expect(await wire.ask('capabilities')).toMatch(/^ok isolation-machine .*\brevert reboot golden-image$/);
    expect(await wire.ask('open')).toMatch(/^ok \/tmp\//);
    const auxverb = decodeArgv((await wire.ask('print-execute-command')).slice(3));
    const sh = (script: string, options = {}) => run([...auxverb, '/bin/sh', '-c', script], options);

    const codes = [];
    for (const script of ['exit 0', 'exit 77', 'exit 255', 'kill -9 $$']) codes.push((await sh(script)).code);
    expect([...codes, (await run([...auxverb, 'no-such-program'])).code]).toEqual([0, 77, 253, 137, 127]);
    expect(await sh('echo out; echo err >&2; cat')).toMatchObject({ stdout: 'out\n', stderr: 'err\n' });

    // more than is allowed to be on its way, in both directions at once; and past a command whose output nobody takes
    const input = Buffer.from(Array.from({ length: 3_000_000 }, (_, i) => (i * i) % 251));
    const stuck = start([...auxverb, 'yes'], ['ignore', 'pipe', 'ignore']);
    const echoed = await sh('cat | sha256sum; head -c 3000000 /dev/zero | tr "\\0" x', { input });
    const [sum] = (await run(['sha256sum'], { input })).stdout.split(' ');
    expect(echoed.stdout).toBe(`${sum}  -\n${'x'.repeat(3_000_000)}`);
    const many = await Promise.all([...Array(20).keys()].map((n) => sh(`echo ${n}`)));
    expect(many.map(({ stdout }) => Number(stdout))).toEqual([...Array(20).keys()]);
    stuck.kill('SIGKILL');
    expect(await ended(stuck)).toBe(137);

    // a daemon that keeps the output open does not keep the command
    expect(await sh('sleep 1000 & echo started')).toMatchObject({ code: 0, stdout: 'started\n' });
    const stop = new AbortController();
    const trapped = sh('trap "touch /root/heard; exit 3" TERM; echo up; while :; do sleep 0.1; done', {
      signal: stop.signal,
      onOutput: () => stop.abort(new Error('up')),
    });
    await expect(trapped).rejects.toThrow('up');
    expect(await sh('ls /root/heard; systemd-detect-virt; cat /proc/1/comm')).toMatchObject({
      stdout: expect.stringMatching(/^\/root\/heard\n(qemu|kvm)\nsystemd\n$/) as string,
    });

    expect(await wire.ask('close')).toBe('ok');
    expect((await run([...auxverb, 'true'])).code).toBe(254);
    const folder = path.dirname(auxverb.find((word) => word.endsWith('.sock')) ?? '/');
    expect([path.basename(folder).slice(0, 5), existsSync(folder)]).toEqual(['qemu-', false]);
    expect(await wire.quit()).toBe(0);
  });
});
